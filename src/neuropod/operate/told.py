"""What `up` and `doctor` tell of a machine: pure text, made of reports."""

from collections.abc import Mapping, Sequence

from neuropod.runtimes.contract import Report
from neuropod.server.serving import Started
from neuropod.settings import Settings
from neuropod.wire.system import Guarantee, Runtime

_NAME_COLUMNS = 10


def isolation(mode: str, guarantees: Sequence[tuple[str, bool, str]], notes: Sequence[str]) -> list[str]:
    """Return what a runtime keeps apart, the gaps with their reasons."""
    held = [name for name, holds, _ in guarantees if holds]
    lines = [f"  mode {mode}", f"  kept apart      {', '.join(held) or 'nothing'}"]
    for name, holds, message in guarantees:
        if not holds:
            lines.append(f"  NOT kept apart  {name.ljust(_NAME_COLUMNS)} {message}".rstrip())
    lines += [f"  {note}" for note in notes]
    return lines


def unopened_runtimes(unopened: Mapping[str, str]) -> list[str]:
    """Return what is away, by name, and why."""
    lines = [f"NOT open: {name}: {why}. It is tried again; its pods are unreachable." for name, why in unopened.items()]
    return [*lines, ""] if lines else []


def isolation_of_reports(reports: Mapping[str, Report]) -> list[str]:
    """Return the same for all runtimes of a server that has just started."""
    lines = []
    for name, report in reports.items():
        rows = [(one.name, one.holds, one.message) for one in report.guarantees]
        lines += [f"What runs pods here ({name}):", *isolation(report.mode, rows, report.notes), ""]
    if not lines:
        lines = ["Nothing runs pods here: no runtime could be opened.", ""]
    return lines


def isolation_of_runtimes(runtimes: Sequence[Runtime]) -> list[str]:
    """Return the same for the runtimes of a running server."""
    lines = []
    for runtime in runtimes:
        guarantees: Sequence[Guarantee] = runtime.guarantees or ()
        rows = [(one.name, one.holds, one.message) for one in guarantees]
        lines += [
            f"What runs pods here ({runtime.name}: {runtime.id}):",
            *isolation(runtime.mode or "-", rows, runtime.notes or ()),
            *([] if runtime.capacity else ["  It does NOT answer now; its pods are unreachable."]),
            "",
        ]
    return lines or ["Nothing runs pods here: no runtime could be opened. The server's log says why.", ""]


def started(told: Started, settings: Settings, *, version: str, program: str, use: str) -> list[str]:
    """Return what a person sees when the server has started; `use` says how the commands find it."""
    minutes = int(settings.accounts.sign_in_link_seconds // 60)
    return [
        "",
        f"Neuropod {version} is running.",
        "",
        f"  Console   {told.addresses.console_origin}",
        f"  Sign in   {told.sign_in_link}",
        f"            (works once, within {minutes} minutes; another one: {program} admin sign-in-link)",
        f"  Data      {settings.data_dir.absolute()}",
        "",
        *isolation_of_reports(told.reports),  # type: ignore[arg-type]  # RuntimeId is a str
        *unopened_runtimes(told.unopened),
        *([use, ""] if use else []),
        "In another terminal:",
        f"  {program} pod create lab --template jupyterlab --wait",
        "",
        f"Ctrl-C stops the server and leaves pods running; {program} down ends their workloads too.",
        "",
    ]
