"""The API server is away, restarted, slow, busy or forgetful, and a network loses what it answered: the wishes hold.

Each test is a real server process whose way to the API server leads through a proxy that can be made faulty.
"""

import random
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pytest
import pytest_asyncio

from support.cluster_account import account_kubeconfig
from support.cluster_orders import needs_throwaway, order
from support.cluster_server import QUICK, cluster, isolates, server_on, small_type
from support.cluster_wishes import (
    SLEEPER,
    PodsMade,
    await_clean,
    await_wishes,
    namespace_of_admin,
    objects_in,
    pods_made,
    pods_of,
)
from support.faulty_api import FOR_READS, FOR_WATCHES, FOR_WRITES, Fault, FaultyApi, Request, faulty_api
from support.kubectl import kubectl
from support.seeds import SEED
from support.servers import Server, wait_for

pytestmark = [pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

AWAY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Stage:
    """A server, what is between it and its API server, and all Pods that were ever made."""

    server: Server
    api: FaultyApi
    made: PodsMade

    def launch(self, *names: str) -> None:
        for name in names:
            self.server.create(name, **SLEEPER)

    def clear(self) -> None:
        for pod in pods_of(self.server).values():
            self.server.api.delete(f"/pods/{pod['id']}").raise_for_status()
        await_wishes(self.server, {})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        api = stack.enter_context(faulty_api(account_kubeconfig()))
        made = stack.enter_context(pods_made())
        lab = cluster(kubeconfig=str(api.kubeconfig(account_kubeconfig(), folder)))
        async with server_on(folder / "data", lab, **QUICK) as server:
            small_type(server)
            isolates(server)
            yield Stage(server, api, made)


def _runs_of(namespace: str) -> dict[str, tuple[str, int, str]]:
    """What runs there: each Pod's UID, its restarts, and since when its process runs."""
    found = {}
    for pod in objects_in(namespace, "pods"):
        (status,) = pod["status"]["containerStatuses"]
        started = status["state"]["running"]["startedAt"]
        found[pod["metadata"]["name"]] = (pod["metadata"]["uid"], status["restartCount"], started)
    return found


def _is_away(server: Server, *names: str) -> bool:
    pods = pods_of(server)
    return all((pods[one]["status"], pods[one]["reason"]) == ("unreachable", "runtime_unreachable") for one in names)


async def test_a_minute_without_the_api_server_changes_nothing_and_what_was_asked_for_meanwhile_happens(stage: Stage):
    server = stage.server
    stage.launch("stays", "stops", "goes")
    before = await_wishes(server, {"stays": "running", "stops": "running", "goes": "running"})
    namespace = namespace_of_admin(server)
    runs = _runs_of(namespace)

    left_at = time.monotonic()
    stage.api.down()
    wait_for(lambda: _is_away(server, "stays", "stops", "goes"), "the status to say so", 90)
    told = server.pod("stays")
    stage.launch("comes")
    server.verb("stops", "stop")
    server.api.delete("/pods/goes").raise_for_status()
    asked = {name: pod["status"] for name, pod in pods_of(server).items()}
    stage.api.plan = lambda _: Fault.SILENT  # from nobody at that address to one who takes requests and says nothing
    stage.api.up()
    wait_for(lambda: time.monotonic() - left_at > AWAY_SECONDS, "a minute to pass", AWAY_SECONDS + 5)
    still = _is_away(server, "stays")
    went_on = _runs_of(namespace)
    stage.api.plan = lambda _: Fault.NONE
    stage.api.down()  # what hangs is cut, as by whoever switches over
    stage.api.up()

    after = await_wishes(server, {"stays": "running", "stops": "stopped", "goes": "gone", "comes": "running"})
    await_clean(server, namespace)

    assert "does not answer" in told["message"]
    assert told["since"] >= before["stays"]["since"]
    assert asked["comes"] in {"waiting", "starting"}
    assert still
    assert went_on == runs
    assert after["stays"]["since"] == before["stays"]["since"]
    assert not stage.made.doubled()
    assert stage.made.of(after["comes"]["id"]) == {1: 1}
    assert _runs_of(namespace)[_name(runs, "stays")] == runs[_name(runs, "stays")]
    stage.clear()


def _name(runs: dict[str, Any], pod: str) -> str:
    (name,) = [one for one in runs if one.startswith(f"{pod}-")]
    return name


@needs_throwaway
async def test_a_restart_of_the_real_api_server_is_no_more_than_a_pause(stage: Stage):
    server = stage.server
    stage.launch("stays")
    before = await_wishes(server, {"stays": "running"})
    namespace = namespace_of_admin(server)
    runs = _runs_of(namespace)

    order("freeze", "kube-apiserver")  # its connections stay, and nothing is answered
    try:
        stage.launch("frozen")
        wait_for(lambda: _is_away(server, "stays"), "the status to say so", 60)
    finally:
        order("thaw", "kube-apiserver")
    await_wishes(server, {"stays": "running", "frozen": "running"})
    order("kill", "kube-apiserver")
    stage.launch("killed")
    order("start", "kube-apiserver")
    after = await_wishes(server, {"stays": "running", "frozen": "running", "killed": "running"})
    await_clean(server, namespace)

    assert after["stays"]["since"] == before["stays"]["since"]
    assert runs.items() <= _runs_of(namespace).items()
    assert not stage.made.doubled()
    stage.clear()


async def test_a_pod_deleted_before_its_pod_could_be_made_leaves_no_secret(stage: Stage):
    server = stage.server
    stage.api.plan = lambda asked: Fault.ERROR if asked.method == "POST" and "/pods?" in asked.target else Fault.NONE
    stage.launch("never")
    namespace = namespace_of_admin(server)
    (secret,) = wait_for(lambda: _secrets_in(namespace), "its Secret", 90)

    server.api.delete("/pods/never").raise_for_status()
    await_wishes(server, {})
    stage.api.plan = lambda _: Fault.NONE
    await_clean(server, namespace)

    assert secret["metadata"]["labels"]["app"] == "never"


def _secrets_in(namespace: str) -> list[dict[str, Any]]:
    """What is there, also before the namespace is."""
    return [] if not kubectl("get", "namespace", namespace, "--ignore-not-found") else objects_in(namespace, "secrets")


class _Weather:
    """At random, by a seed, one in `one_of` requests meets the next of the faults, every second one of the few watches.

    No more than a few meet one that holds up for long.
    """

    def __init__(self, seed: int, *, one_of: int, slow: int) -> None:
        self._random = random.Random(seed)
        self._one_of = one_of
        self._slow = slow
        self._of_writes, self._of_reads = cycle(FOR_WRITES), cycle(FOR_READS)
        self._of_watches = cycle(one for fault in FOR_WATCHES for one in (fault, Fault.NONE))

    def __call__(self, request: Request) -> Fault:
        if request.watches:
            return next(self._of_watches)
        if request.upgrade or self._random.randrange(self._one_of):
            return Fault.NONE
        fault = next(self._of_writes if request.writes else self._of_reads)
        if fault in {Fault.SILENT, Fault.LATE}:
            self._slow -= 1
            return fault if self._slow >= 0 else Fault.ANSWER_LOST
        return fault


async def test_whatever_becomes_of_requests_and_answers_the_cluster_equals_the_wishes(stage: Stage):
    server, random_ = stage.server, random.Random(SEED)
    wanted: dict[str, str] = {}
    stage.api.met.clear()
    stage.api.plan = _Weather(SEED, one_of=4, slow=6)

    for turn in range(24):
        running = sorted(name for name, want in wanted.items() if want != "gone")
        choice = random_.random()
        if choice < 0.45 or not running:
            stage.launch(name := f"p{turn}")
            wanted[name] = "running"
        else:
            name = random_.choice(running)
            verb = "stop" if choice < 0.65 else "start" if choice < 0.8 else "restart" if choice < 0.85 else "delete"
            if verb == "delete":
                server.api.delete(f"/pods/{name}").raise_for_status()
            else:
                server.verb(name, verb)
            wanted[name] = {"stop": "stopped", "delete": "gone"}.get(verb, "running")
        if turn % 4 == 3:
            stage.api.cut_watches()
            _let_some_happen(server, wanted)
    await_wishes(server, wanted, 180)
    stage.api.plan = lambda _: Fault.NONE
    pods = await_wishes(server, wanted)
    await_clean(server, namespace_of_admin(server))

    met = {fault for fault, count in stage.api.met.items() if count}
    assert met >= {Fault.ANSWER_LOST, Fault.ERROR_AFTER, *FOR_WATCHES}
    assert met & {Fault.SILENT, Fault.LATE}
    assert not stage.made.doubled()
    assert {name for name, want in wanted.items() if want != "gone"} == set(pods)
    stage.clear()


def _let_some_happen(server: Server, wanted: dict[str, str]) -> None:
    """Wait until something of what is wanted is so: the next wishes meet pods in all states."""
    names = [name for name, want in wanted.items() if want == "running"]

    def some() -> bool:
        pods = pods_of(server)
        return any(pods[name]["status"] == "running" for name in names)

    if names:
        wait_for(some, "one of them to run", 90)
