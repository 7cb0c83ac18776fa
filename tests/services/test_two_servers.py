"""Two real servers on one PostgreSQL: both start at once, nothing is done twice, no event is lost, one may be away."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.postgres import Postgres
from support.servers import ADMIN_KEY, Server, wait_for

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("two servers")]


class Heard:
    """A client that follows everybody's events on one server, over its restarts."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.events: list[dict[str, Any]] = []
        self.resets = 0
        self.begun = threading.Event()
        self._last: str | None = None
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        assert self.begun.wait(20)

    def _follow(self) -> None:
        while not self._ends.is_set():
            headers = {"Authorization": f"Bearer {ADMIN_KEY}"} | ({"Last-Event-ID": self._last} if self._last else {})
            with (
                suppress(httpx.TransportError),
                httpx.stream(
                    "GET", f"{self._server.url}/api/v1/events?everybody=true", headers=headers, timeout=20
                ) as stream,
            ):
                self._read(stream)
            self._ends.wait(0.1)

    def _read(self, stream: httpx.Response) -> None:
        block: dict[str, str] = {}
        for line in stream.iter_lines():
            if self._ends.is_set():
                return
            if line:
                name, _, value = line.partition(": ")
                block[name] = value
                continue
            self._last = block.get("id", self._last)
            if "data" in block:
                name = block.get("event", "message")
                self.resets += name == "reset"
                if name == "message":
                    self.events.append(json.loads(block["data"]))
                self.begun.set()
            block = {}

    def kinds(self, pod: str) -> list[str]:
        return [one["kind"] for one in self.events if one["pod_id"] == pod]

    def end(self) -> None:
        """Follow no more: the thread ends with its stream, which ends with its server."""
        self._ends.set()


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
                reconcile__presence_seconds="1",
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


def test_both_start_at_once_and_each_runs_its_own(pair: tuple[Server, Server]):
    a, b = pair
    system = wait_for(
        lambda: found if len((found := a.api.get("/system").json())["servers"]) == 2 else None, "both servers"
    )
    heard = [Heard(a), Heard(b)]

    made = {server: [server.create(f"{name}{number}", template="jupyterlab", volume=None) for number in range(5)]
            for server, name in ((a, "of-a"), (b, "of-b"))}  # fmt: skip
    pods = [pod["id"] for ones in made.values() for pod in ones]

    def all_ready() -> bool:
        return all(one.kinds(pod).count("pod.ready") for one in heard for pod in pods)

    wait_for(all_ready, "both to hear that all are ready", 30)
    assert {tuple(server["runtimes"]) for server in system["servers"]} == {("fake:a",), ("fake:b",)}
    for server, ones in made.items():
        own = "fake:a" if server is a else "fake:b"
        assert {pod["runtime"] for pod in ones} == {own}
        for other in pair:  # each shows the other's as it is
            assert {other.pod(pod["name"])["status"] for pod in ones} == {"running"}
    for one in heard:
        ids = [event["id"] for event in one.events]
        assert ids == sorted(set(ids))
        assert one.resets == 0
        for pod in pods:
            assert one.kinds(pod) == ["pod.launched", "pod.status_changed", "pod.ready"]
            assert one.kinds(pod).count("pod.launched") == 1
    assert [event["id"] for event in heard[0].events] == [event["id"] for event in heard[1].events]
    for one in heard:
        one.end()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_nobody_serves_is_unreachable_until_its_server_is_back(pair: tuple[Server, Server], how: str):
    a, b = pair
    heard = Heard(a)
    pod = b.create("lab", template="jupyterlab", volume=None)["id"]
    b.wait_for_status("lab", "running")
    assert a.pod("lab")["status"] == "running"

    getattr(b, how)()
    gone = wait_for(lambda: found if (found := a.pod("lab"))["status"] == "unreachable" else None, "unreachable", 20)
    wait_for(lambda: heard.kinds(pod)[-1] == "pod.status_changed", "an event that says so", 20)
    told = [event["pod"]["reason"] for event in heard.events if event["pod_id"] == pod][-1]
    a.verb("lab", "stop")
    b.start()
    back = wait_for(lambda: found if (found := a.pod("lab"))["status"] == "stopped" else None, "stopped", 30)

    assert (gone["reason"], told) == ("no_server", "no_server")
    assert back["reason"] == "requested"
    assert heard.resets == 0
    heard.end()


def test_a_follower_of_a_server_that_restarts_misses_nothing_of_what_the_other_did(pair: tuple[Server, Server]):
    a, b = pair
    heard, whole = Heard(a), Heard(b)

    a.stop()
    pods = [b.create(f"lab{number}", template="jupyterlab", volume=None)["id"] for number in range(3)]
    wait_for(lambda: all("pod.ready" in whole.kinds(pod) for pod in pods), "the other to work on", 20)
    a.start()

    wait_for(lambda: all("pod.ready" in heard.kinds(pod) for pod in pods), "all to be heard", 20)
    assert [heard.kinds(pod) for pod in pods] == [whole.kinds(pod) for pod in pods]
    assert heard.resets == 0
    for one in (heard, whole):
        one.end()
