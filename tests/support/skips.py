"""In CI, a skipped test that is not in the checked-in list fails the run: nothing is skipped silently.

`tests/skips.txt` holds a line per test that may be skipped there: its id, without parameters, and why.
"""

import os
from pathlib import Path

import pytest

LIST = Path(__file__).parents[1] / "skips.txt"


def allowed() -> set[str]:
    lines = (line.partition("#")[0].strip() for line in LIST.read_text().splitlines())
    return {line for line in lines if line}


class Skips:
    """Collects what was skipped; with pytest-xdist only the controller sees all."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self._allowed = allowed()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.partition("[")[0]
        if report.skipped and not hasattr(report, "wasxfail") and name not in self._allowed:
            self.unknown.add(f"{report.nodeid}: {report.longrepr[2] if isinstance(report.longrepr, tuple) else ''}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unknown and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unknown:
            terminalreporter.section("skipped, and not in tests/skips.txt", red=True)
            for line in sorted(self.unknown):
                terminalreporter.line(line)


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Skips())
