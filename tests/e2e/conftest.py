"""The machine's real server, once for a module of tests that share it."""

from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from support.servers import Server, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One server for the tests of a module; the folder's path is short because sockets live below it."""
    folder = Path(mkdtemp(prefix="npe"))
    folder.chmod(0o755)
    with running_server(folder / "data", reconcile__look_seconds="1") as server:
        yield server
    rmtree(folder)
