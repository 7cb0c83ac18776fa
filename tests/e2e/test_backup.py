"""Backup and restore for real: a server with running pods, a backup, more pods, a kill, the restore, and what then stands."""

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest

from neuropod.kit.terminal.exits import Exit
from neuropod.runtimes.local.state import read_state
from support.servers import Server, running_server, wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("backup")]


@pytest.fixture
def server() -> Iterator[Server]:
    folder = Path(mkdtemp(prefix="npe"))
    folder.chmod(0o755)
    quick = {"reconcile__resync_seconds": "1", "reconcile__sweep_grace_seconds": "1"}
    with running_server(folder / "data", **quick) as server:
        yield server
    rmtree(folder)


def _standing(server: Server) -> dict[str, str]:
    """The incarnations that the machine holds, each with the identity of what stands there."""
    found = {}
    for path in server.data_dir.glob("pods/pod_*/*"):
        state = read_state(path)
        if state is not None:
            found[f"{state.pod}.{state.incarnation}"] = state.identity
    return found


def _json(server: Server, *words: str) -> dict[str, Any]:
    done = server.run(*words, "--json")
    assert done.returncode == 0, done
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _part(server: Server, name: str) -> dict[str, Any]:
    parts = server.api.get("/system").json()["parts"]
    found: dict[str, Any] = next(part for part in parts if part["name"] == name)
    return found


def test_after_a_restore_old_pods_go_on_and_newer_ones_wait_for_a_confirmation(server: Server):
    file = server.data_dir.parent / "one.backup"
    old = server.create("old", template="python-web", container_disk_gb=1, volume={"name": "data", "size_gb": 1})
    server.create("again", template="python-web", container_disk_gb=1, volume=None)
    for name in ("old", "again"):
        server.wait_for_status(name, "running", seconds=300)

    made = server.run("backup", str(file), "--with-key")
    with_volumes = server.run("backup", str(file) + "2", "--with-volumes")
    while_it_runs = server.run("restore", str(file), "--force")
    new = server.create("new", template="python-web", container_disk_gb=1, volume=None)
    server.wait_for_status("new", "running")
    server.verb("again", "restart")
    again = wait_for(
        lambda: server.pod("again") if server.pod("again")["incarnation"]["number"] == 2 else None, "run 2"
    )
    server.wait_for_status("again", "running")
    server.kill()
    without_force = server.run("restore", str(file))
    restored = server.run("restore", str(file), "--force")

    assert (made.returncode, stat.S_IMODE(file.stat().st_mode)) == (0, 0o600), made
    assert (with_volumes.returncode, "pods use these volumes" in with_volumes.stderr) == (Exit.CONFLICT, True)
    assert while_it_runs.returncode == without_force.returncode == Exit.CONFLICT
    assert restored.returncode == 0, restored
    assert sorted(path.name for path in file.parent.glob("*.backup*")) == ["one.backup"]

    # What was there at the backup goes on, what came later is listed, and nothing of it is swept.
    server.start()
    server.wait_for_status("old", "running")
    unknown = {(one["pod"], one["incarnation"]) for one in _json(server, "admin", "show-epoch")["unknown"]}
    wait_for(lambda: _part(server, "resync")["details"].get("without_row") == 2, "the resync to list both")
    wait_for(lambda: "show-epoch" in _part(server, "resync")["message"], "the server to say what to do")

    assert unknown == {(new["id"], 1), (again["id"], 2)}
    assert server.api.get("/pods/new").status_code == 404
    assert server.pod("old")["incarnation"]["number"] == 1
    before = _standing(server)
    assert {f"{new['id']}.1", f"{again['id']}.2", f"{old['id']}.1"} <= before.keys()

    # Once somebody confirms, they go; the pod that had been restarted since has, by the older database, lost its
    # first run, and gets a second one: another one than the second run that is swept.
    assert server.api.post("/system/epoch/confirm").json() == {"epoch": 1, "changed": True}
    wait_for(lambda: set(before.values()) & set(_standing(server).values()) == {before[f"{old['id']}.1"]}, "the sweep")
    wait_for(lambda: server.pod("again")["incarnation"]["number"] == 2, "its loss to be seen")
    server.wait_for_status("again", "running")

    assert server.pod("old")["incarnation"]["number"] == 1
    assert _json(server, "admin", "show-epoch")["unknown"] == []


def _image(server: Server) -> Path:
    (image,) = (server.data_dir / "volumes").glob("vol_*.img")
    return image


def test_volumes_come_back_as_they_were_and_stay_sparse(server: Server):
    file = server.data_dir.parent / "all.backup"
    server.create("lab", template="python-web", container_disk_gb=1, volume={"name": "data", "size_gb": 1})
    server.wait_for_status("lab", "running", seconds=300)
    server.verb("lab", "stop")
    server.wait_for_status("lab", "stopped")
    image = _image(server)
    before = hashlib.sha256(image.read_bytes()).hexdigest()

    made = server.run("backup", str(file), "--with-volumes", "--with-key")
    server.kill()
    rmtree(server.data_dir / "db")
    rmtree(server.data_dir / "volumes")
    server.data_dir.with_name("data.key").unlink()
    restored = _json(server, "restore", str(file), "--with-volumes")
    after = hashlib.sha256(_image(server).read_bytes()).hexdigest()
    server.start()
    server.verb("lab", "start")
    server.wait_for_status("lab", "running")

    assert made.returncode == 0, made
    assert file.stat().st_size < 100 * 2**20
    assert restored["volumes"] == [image.stem]
    assert restored["key_written"] is True
    assert after == before
    assert _image(server).stat().st_blocks * 512 < 200 * 2**20
