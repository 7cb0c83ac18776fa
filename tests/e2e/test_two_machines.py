"""Two servers with machine ids of their own on one PostgreSQL, each with a gateway apart, and pods that really run.

Both run on this machine: what tells them apart is what tells two machines apart, the id and the data directory.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import httpx
import pytest

from support.heard import Heard
from support.postgres import Postgres
from support.servers import Server, gateway_of, running_server, wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("two machines")]

# Counts aloud for as long as somebody listens: a cut stream is one whose numbers end.
COUNTER = """
import http.server, time

class Counter(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        for number in range(100000 if self.path == "/count" else 1):
            self.wfile.write(f"{number}\\n".encode())
            self.wfile.flush()
            time.sleep(0.1 if self.path == "/count" else 0)

http.server.ThreadingHTTPServer(("", 8000), Counter).serve_forever()
"""
TEMPLATE: dict[str, Any] = {
    "name": "counter",
    "title": "Counter",
    "recipe": {"packages": [], "command": ["python3", "-c", COUNTER]},
    "ports": [{"port": 8000}],
    "ready_when": "port",
    "ready_port": 8000,
    "container_disk_gb": 1,
    "volume_gb": None,
}


class Stream:
    """A client that listens to a pod's counting by way of a gateway."""

    def __init__(self, gateway: str, headers: dict[str, str]) -> None:
        self.numbers: list[int] = []
        self._response = httpx.Client(timeout=60).send(
            httpx.Request("GET", f"{gateway}/count", headers=headers), stream=True
        )
        assert self._response.status_code == 200
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(httpx.TransportError):  # at the end the gateway goes
            for line in self._response.iter_lines():
                self.numbers.append(int(line))

    def goes_on(self) -> bool:
        """Wait for five more numbers."""
        goal = len(self.numbers) + 5
        wait_for(lambda: len(self.numbers) >= goal or not self._thread.is_alive(), "the stream to go on", 30)
        return self._thread.is_alive() and self.numbers == list(range(len(self.numbers)))


@pytest.fixture
def machines(postgres: Postgres) -> Iterator[tuple[Server, Server]]:
    folder = Path(mkdtemp(prefix="np2"))
    folder.chmod(0o755)
    database = folder.name.lower().replace("_", "x")
    postgres.sql(f"CREATE DATABASE {database}")
    with ExitStack() as stack:
        servers = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            settings = {
                "database_url": postgres.url(database),
                "key_file": str(folder / "shared.key"),
                "local__machine_id": name,
                "reconcile__presence_seconds": "1",
            }
            servers.append(stack.enter_context(running_server(folder / name / "data", **settings)))
        first, second = servers
        yield first, second
    rmtree(folder)


@pytest.fixture
def heard(machines: tuple[Server, Server]) -> Iterator[tuple[Heard, Heard]]:
    """What each of them says happens, from before the first pod."""
    with Heard(machines[0]) as of_a, Heard(machines[1]) as of_b:
        yield of_a, of_b


def test_neither_touches_the_others_pods_and_a_rolling_restart_cuts_nothing(
    machines: tuple[Server, Server], heard: tuple[Heard, Heard]
):
    a, b = machines
    assert a.api.post("/templates", json=TEMPLATE).status_code == 201
    pods = {server: server.create(name, template="counter") for server, name in ((a, "of-a"), (b, "of-b"))}
    for server in machines:
        server.wait_for_status(pods[server]["name"], "running")

    with gateway_of(a) as gateway_a, gateway_of(b) as gateway_b:
        ways = {a: gateway_a, b: gateway_b}
        headers = {server: server.visit(pods[server], 8000)[1] for server in machines}
        streams = [Stream(ways[server], headers[server]) for server in machines]
        for leaves, stays in ((a, b), (b, a)):
            name = pods[leaves]["name"]
            leaves.stop()
            wait_for(lambda: stays.pod(name)["status"] == "unreachable", "the one that stays to say so")  # noqa: B023
            told = stays.pod(name)["reason"]
            visit = httpx.get(ways[leaves], headers=headers[leaves], timeout=30)
            other = httpx.get(ways[stays], headers=headers[stays], timeout=30)
            wish = stays.create(f"while-{name}", template="counter")  # work goes on meanwhile
            stays.wait_for_status(wish["name"], "running")
            went_on = [stream.goes_on() for stream in streams]
            leaves.start()
            wait_for(lambda: stays.pod(name)["status"] == "running", "it to be back")  # noqa: B023

            assert told == "no_server"
            assert (visit.status_code, other.status_code) == (200, 200)  # by a known key, and not concerned at all
            assert went_on == [True, True]
        assert [stream.goes_on() for stream in streams] == [True, True]

    for server in machines:
        name = pods[server]["name"]
        assert {one.pod(name)["incarnation"]["number"] for one in machines} == {1}
        assert {one.pod(name)["runtime"] for one in machines} == {f"local:{name[-1]}"}
    last = a.create("last", template="counter", volume=None)["id"]
    wait_for(lambda: all("pod.ready" in one.kinds(last) for one in heard), "both to hear of the last", 60)
    first, second = ([event["id"] for event in one.events] for one in heard)
    assert first == sorted(set(first))
    assert first == second
    assert [one.resets for one in heard] == [0, 0]
