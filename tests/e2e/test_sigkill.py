"""The server is killed at random moments of launches, stops and deletes, many times; the world then equals the wishes."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from support.servers import Server, wait_for

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("sigkill")]

ROUNDS = 12
SEED = int(os.environ.get("NEUROPOD_TEST_SEED", "20261124"))


def _shims(server: Server) -> list[int]:
    """Every process of this installation's pods: their working state stands below the data directory."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                mounts = (process / "mountinfo").read_bytes()
            except OSError:
                continue
            if str(server.data_dir).encode() in words or f"{server.data_dir}/pods/".encode() in mounts:
                found.append(int(process.name))
    return found


def _incarnations(server: Server) -> set[str]:
    """The workloads that the machine holds, by their state files."""
    return {
        f"{state.parent.parent.name}.{state.parent.name}" for state in (server.data_dir / "pods").glob("pod_*/*/state*")
    }


def _act(server: Server, random_: random.Random, known: dict[str, str]) -> None:
    """Send one wish; the answer may never come, since the server dies meanwhile."""
    choice = random_.random()
    if choice < 0.5 or not known:
        name = f"p{len(known)}"
        server.create(name, template="python-web", container_disk_gb=1, volume=None)
        known[name] = "running"
    else:
        name = random_.choice(sorted(known))
        verb = random_.choice(["stop", "start", "restart"]) if choice < 0.85 else "delete"
        if known[name] == "gone":
            return
        if verb == "delete":
            server.api.delete(f"/pods/{name}").raise_for_status()
            known[name] = "gone"
        else:
            server.verb(name, verb)
            known[name] = "stopped" if verb == "stop" else "running"


def _settled(server: Server, known: dict[str, str]) -> bool:
    pods = {pod["name"]: pod for pod in server.api.get("/pods", params={"limit": 200}).json()["items"]}
    wanted = {name for name, want in known.items() if want != "gone"}
    if set(pods) != wanted:
        return False
    return all(pod["status"] == {"running": "running", "stopped": "stopped"}[pod["want"]] for pod in pods.values())


def test_after_kills_at_random_moments_the_world_equals_the_wishes(server: Server):
    random_ = random.Random(SEED)
    known: dict[str, str] = {}
    server.create("warm", template="python-web", container_disk_gb=1, volume=None)
    server.wait_for_status("warm", "running", seconds=300)
    known["warm"] = "running"

    for _ in range(ROUNDS):
        for _ in range(random_.randint(1, 3)):
            _act(server, random_, known)
        time.sleep(random_.uniform(0, 0.6))  # the moment of the kill is the test's random input
        assert server.process is not None
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.start()

    wait_for(lambda: _settled(server, known), "the wishes to hold", 180)
    pods = server.api.get("/pods", params={"limit": 200}).json()["items"]
    running = {f"{pod['id']}.{pod['incarnation']['number']}" for pod in pods if pod["status"] == "running"}
    wait_for(lambda: _incarnations(server) == running, "no workload but those of running pods", 120)

    for name in [name for name, want in known.items() if want != "gone"]:
        server.api.delete(f"/pods/{name}").raise_for_status()
        known[name] = "gone"
    wait_for(lambda: _settled(server, known), "all pods to be gone", 120)
    server.stop()
    wait_for(lambda: _shims(server) == [], "no process to be left", 60)
