"""SECURITY 9: a data disk without room: writes are refused with a clear problem, reads go on, nothing breaks, it passes."""

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from support.servers import Server, running_server, wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(300), pytest.mark.xdist_group("full-disk")]


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 48 MB."""
    folder = Path(mkdtemp(prefix="npf"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
    rmtree(folder)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                file.write(b"z" * size)
            except OSError:
                size //= 2


def _launch(server: Server, name: str) -> tuple[int, str]:
    answer = server.api.post("/pods", json={"name": name, "template": "jupyterlab", "env": {"BIG": "x" * 60_000}})
    return answer.status_code, answer.json().get("code", "")


def test_a_full_data_disk_refuses_writes_and_recovers_by_itself(small_disk: Path):
    with running_server(small_disk / "data", fake_runtime="true", reconcile__resync_seconds="1") as server:
        before = server.create("before", template="jupyterlab")
        server.wait_for_status("before", "running")
        _fill(small_disk / "filling")

        refused = [_launch(server, f"p{number}") for number in range(12)]
        names = {pod["name"] for pod in server.api.get("/pods").json()["items"]}
        made = {f"p{number}" for number, (status, _) in enumerate(refused) if status == 201}
        alive = server.process is not None and server.process.poll() is None
        (small_disk / "filling").unlink()
        wait_for(lambda: _launch(server, "after")[0] in {201, 409}, "launches to be taken again")
        server.wait_for_status("after", "running")
        wait_for(lambda: server.api.get("/../../readyz").status_code == 200, "the server to be well")

        assert (507, "disk_full") in refused
        assert {status for status, _ in refused} <= {201, 507}
        assert names == made | {"before"}
        assert alive
        assert server.pod("before")["id"] == before["id"]
        server.stop()
        with closing(sqlite3.connect(small_disk / "data" / "db" / "neuropod.sqlite3")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
