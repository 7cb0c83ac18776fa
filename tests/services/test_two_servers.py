"""Two real servers on one PostgreSQL: both start at once, nothing is done twice, no event is lost, one may be away."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.heard import Heard
from support.postgres import Postgres
from support.servers import Server, wait_for

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("two servers")]


@pytest.fixture
def pair(tmp_path: Path, postgres: Postgres) -> Iterator[tuple[Server, Server]]:
    """Two servers that start at the same moment on an empty database."""
    name = f"two{tmp_path.name.replace('-', '')[-20:].lower()}{id(tmp_path)}"
    postgres.sql(f"CREATE DATABASE {name}")
    servers = []
    for which in ("a", "b"):
        (tmp_path / which).mkdir()
        servers.append(
            Server(
                tmp_path / which / "data",
                database_url=postgres.url(name),
                key_file=str(tmp_path / "shared.key"),
                fake_runtime="true",
                fake_runtime_name=which,
                reconcile__presence_seconds="2",  # who is silent for three times as long is taken for dead
            )
        )
    first, second = servers
    starts = [threading.Thread(target=server.start) for server in servers]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    yield first, second
    for server in servers:
        server.api.close()
        server.stop()


@pytest.fixture
def heard(pair: tuple[Server, Server]) -> Iterator[tuple[Heard, Heard]]:
    """What each of them says happens, from before the first pod."""
    with Heard(pair[0]) as of_a, Heard(pair[1]) as of_b:
        yield of_a, of_b


def test_both_start_at_once_and_each_runs_its_own(pair: tuple[Server, Server], heard: tuple[Heard, Heard]):
    a, b = pair
    system = wait_for(
        lambda: found if len((found := a.api.get("/system").json())["servers"]) == 2 else None, "both servers"
    )

    made = {server: [server.create(f"{name}{number}", template="jupyterlab", volume=None) for number in range(5)]
            for server, name in ((a, "of-a"), (b, "of-b"))}  # fmt: skip
    pods = [pod["id"] for ones in made.values() for pod in ones]

    def all_ready() -> bool:
        return all(one.kinds(pod).count("pod.ready") for one in heard for pod in pods)

    wait_for(all_ready, "both to hear that all are ready")
    assert {tuple(server["runtimes"]) for server in system["servers"]} == {("fake:a",), ("fake:b",)}
    for server, ones in made.items():
        own = "fake:a" if server is a else "fake:b"
        assert {pod["runtime"] for pod in ones} == {own}
        for other in pair:  # each shows the other's as it is, once it knows of the other
            for pod in ones:
                other.wait_for_status(pod["name"], "running")
    for one in heard:
        ids = [event["id"] for event in one.events]
        assert ids == sorted(set(ids))
        assert one.resets == 0
        for pod in pods:
            assert one.kinds(pod) == ["pod.launched", "pod.status_changed", "pod.ready"]
            assert one.kinds(pod).count("pod.launched") == 1
    assert [event["id"] for event in heard[0].events] == [event["id"] for event in heard[1].events]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_nobody_serves_is_unreachable_until_its_server_is_back(
    pair: tuple[Server, Server], heard: tuple[Heard, Heard], how: str
):
    (a, b), (of_a, _) = pair, heard
    pod = b.create("lab", template="jupyterlab", volume=None)["id"]
    for server in (b, a):
        server.wait_for_status("lab", "running")

    getattr(b, how)()
    gone = wait_for(lambda: found if (found := a.pod("lab"))["status"] == "unreachable" else None, "unreachable")
    wait_for(lambda: of_a.kinds(pod)[-2:] == ["pod.ready", "pod.status_changed"], "an event that says so")
    told = [event["pod"]["reason"] for event in of_a.events if event["pod_id"] == pod][-1]
    a.verb("lab", "stop")
    b.start()
    back = wait_for(lambda: found if (found := a.pod("lab"))["status"] == "stopped" else None, "stopped")

    assert (gone["reason"], told) == ("no_server", "no_server")
    assert back["reason"] == "requested"
    assert of_a.resets == 0


def test_a_follower_of_a_server_that_restarts_misses_nothing_of_what_the_other_did(
    pair: tuple[Server, Server], heard: tuple[Heard, Heard]
):
    (a, b), (parted, whole) = pair, heard

    a.stop()
    pods = [b.create(f"lab{number}", template="jupyterlab", volume=None)["id"] for number in range(3)]
    wait_for(lambda: all("pod.ready" in whole.kinds(pod) for pod in pods), "the other to work on")
    a.start()

    wait_for(lambda: all("pod.ready" in parted.kinds(pod) for pod in pods), "all to be heard")
    assert [parted.kinds(pod) for pod in pods] == [whole.kinds(pod) for pod in pods]
    assert parted.resets == 0


def test_one_machine_has_one_server_whoever_else_shares_the_database(tmp_path: Path, pair: tuple[Server, Server]):
    a, _ = pair
    pod = a.create("lab", template="jupyterlab", volume=None)
    a.wait_for_status("lab", "running")
    (tmp_path / "copy").mkdir()
    copy = Server(tmp_path / "copy" / "data", **_settings(a))

    refused = copy.run("up")
    a.kill()
    copy.start()  # once the lease of the dead has ended
    try:
        served = {tuple(server["runtimes"]) for server in copy.api.get("/system").json()["servers"]}
        again = a.run("up")
    finally:
        copy.api.close()
        copy.stop()

    assert refused.returncode == again.returncode != 0
    assert "NEUROPOD_LOCAL__MACHINE_ID" in refused.stderr
    assert served == {("fake:a",), ("fake:b",)}
    a.start()
    assert a.pod("lab")["id"] == pod["id"]


def test_a_server_that_was_killed_is_not_taken_for_another(pair: tuple[Server, Server]):
    a, b = pair
    (before,) = [one for one in b.api.get("/system").json()["servers"] if one["runtimes"] == ["fake:a"]]

    a.kill()
    a.start()

    (after,) = [one for one in b.api.get("/system").json()["servers"] if one["runtimes"] == ["fake:a"]]
    assert before["id"] == after["id"]
    assert before["started_at"] < after["started_at"]


def _settings(server: Server) -> dict[str, str]:
    """Return what a server of the same machine and database is started with."""
    names = ("database_url", "key_file", "fake_runtime", "fake_runtime_name", "reconcile__presence_seconds")
    return {name: server.env[f"NEUROPOD_{name.upper()}"] for name in names}
