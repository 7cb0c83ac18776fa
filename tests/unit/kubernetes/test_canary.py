"""What the canary's Pods make of what they reach, what their ends mean, and when it is asked again; a played cluster."""

import asyncio
import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from neuropod.ids import InstallationId
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ConflictError, KubeUnavailableError
from neuropod.runtimes.kubernetes import canary, names
from neuropod.runtimes.kubernetes.canary import Canary, verdict_of
from neuropod.runtimes.kubernetes.fences import Fence
from neuropod.runtimes.kubernetes.shapes import PodShape
from support.clocks import ManualClock

INSTALLATION = InstallationId("ins_1")
API = ("172.31.77.10", 6443)

# Answers one call after the other as its plan says (r: reached, f: failed), the last one for ever.
NC = """#!/bin/sh
cat >/dev/null
read -r plan <"$PLAN"
[ ${#plan} -eq 1 ] || echo "${plan#?}" >"$PLAN"
echo >>"$PLAN.calls"
case $plan in r*) ;; *) exit 1 ;; esac
"""


class Script:
    """A script of the canary's in a shell, whose `nc` follows a plan."""

    def __init__(self, folder: Path, script: str, plan: str) -> None:
        for name, text in (("nc", NC), ("sleep", "#!/bin/sh\nexec /bin/sleep 0.02\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        self.plan = folder / "plan"
        self.plan.write_text(f"{plan}\n")
        env = {"PATH": f"{folder}:{os.environ['PATH']}", "PLAN": str(self.plan)}
        self.process = subprocess.Popen(["/bin/sh", "-c", script, "sh", API[0], str(API[1])], env=env)

    def exit_code(self) -> int:
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()

    async def until_called(self, times: int) -> None:
        calls = Path(f"{self.plan}.calls")
        async with asyncio.timeout(30):
            while not calls.exists() or len(calls.read_text()) < times:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        ("f", 0),
        ("rrrrrf", 0),  # some implementations need a moment after a Pod's start
        ("fr", canary._LET_THROUGH),
        ("ffrffrffr", canary._LET_THROUGH),
        ("r", canary._LET_THROUGH),
    ],
)
def test_only_several_failures_in_a_row_are_a_fence(tmp_path: Path, plan: str, code: int):
    assert Script(tmp_path, canary._FENCED, plan).exit_code() == code


@pytest.mark.parametrize(("plan", "code"), [("r", 0), ("fffr", 0), ("f", 1)])
def test_the_free_one_runs_once_it_has_reached(tmp_path: Path, plan: str, code: int):
    assert Script(tmp_path, canary._BEFORE, plan).exit_code() == code


async def test_the_free_one_reaches_until_it_is_told_to_end_and_once_more(tmp_path: Path):
    script = Script(tmp_path, canary._ALL_THE_WHILE, "rrfrfr")  # a single failure is nothing
    await script.until_called(8)
    script.process.terminate()

    assert script.exit_code() == 0


async def test_the_free_one_has_to_reach_after_the_end_too(tmp_path: Path):
    script = Script(tmp_path, canary._ALL_THE_WHILE, "r")
    await script.until_called(3)
    script.plan.write_text("f\n")
    script.process.terminate()

    assert script.exit_code() == 1


def test_a_moment_in_which_the_free_one_reaches_nothing_ends_it(tmp_path: Path):
    assert Script(tmp_path, canary._ALL_THE_WHILE, "rrffr").exit_code() == 1


@pytest.mark.parametrize(
    ("fenced", "free", "holds"),
    [
        (0, 0, True),
        (0, 1, None),  # nothing was reached without a policy either
        (0, 137, None),
        (0, None, None),
        (canary._LET_THROUGH, None, False),
        (1, 0, None),
        (137, 0, None),  # killed by its node
        (None, 0, None),
    ],
)
def test_only_a_policy_can_be_the_reason_of_what_counts_as_one(
    fenced: int | None, free: int | None, holds: bool | None
):
    assert verdict_of(fenced, free).holds is holds


class Played:
    """As much of a cluster as canaries use; the fenced Pod ends once `ends` is set."""

    def __init__(self, clock: ManualClock, *, fenced: int = 0, free: int = 0) -> None:
        self.clock = clock
        self.fenced, self.free = fenced, free
        self.ends = True
        self.away = False
        self.drained = False  # the free Pod was told to end, not by the canary
        self.namespaces: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.tries: list[float] = []  # when the first namespace of each was made

    def made(self, name: str, *, seconds_ago: float = 0.0, **metadata: Any) -> None:
        """Let there be a namespace of that name."""
        at = self.clock.now() - timedelta(seconds=seconds_ago)
        labels = {names.INSTALLATION: INSTALLATION, names.CANARY: "true"}
        told = {"name": name, "uid": f"uid-{name}", "labels": labels, "creationTimestamp": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        self.namespaces[name] = {"metadata": told | metadata}

    async def create(self, obj: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        name = obj["metadata"]["name"]
        if obj["kind"] == "Pod":
            namespace = obj["metadata"]["namespace"]
            assert namespace in self.namespaces
            self.pods[namespace] = obj
            return obj
        if obj["metadata"]["annotations"][names.USER_ID].endswith("free"):
            self.tries.append(self.clock.monotonic())
        if self.away:
            raise KubeUnavailableError("the API server gives no answer")
        if name in self.namespaces:
            raise ConflictError(409, "AlreadyExists", "already exists")
        self.made(name, labels=obj["metadata"]["labels"], annotations=obj["metadata"]["annotations"])
        return self.namespaces[name]

    async def apply(self, obj: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return obj

    async def get_as(self, shape: Any, kind: Any, name: str, namespace: str) -> Any:
        await asyncio.sleep(0)
        pod = self.pods.get(namespace)
        if pod is None:
            return None
        container = {"name": names.CONTAINER, "state": {"running": {}}}
        running: dict[str, Any] = {"phase": "Running", "containerStatuses": [container]}
        is_free = "initContainers" in pod["spec"]
        if is_free and pod["spec"]["activeDeadlineSeconds"] > 1 and not self.drained:
            status = running
        elif is_free:
            status = _ended(self.free)
        else:
            status = _ended(self.fenced) if self.ends else running
        metadata = {"name": name, "namespace": namespace}
        return msgspec.convert({"metadata": metadata, "spec": {"nodeName": "node-1"}, "status": status}, PodShape)

    async def merge_patch(self, kind: Any, name: str, namespace: str, patch: dict[str, Any]) -> None:
        self.pods[namespace]["spec"] |= patch["spec"]

    async def delete(self, kind: Any, name: str, *, uid: str) -> bool:
        await asyncio.sleep(0)
        assert self.namespaces[name]["metadata"]["uid"] == uid
        del self.namespaces[name]
        self.pods.pop(name, None)
        return True

    async def list(self, kind: Any, *, labels: str) -> list[dict[str, Any]]:
        assert labels == f"neuropod.io/canary,neuropod.io/installation={INSTALLATION}"
        return list(self.namespaces.values())


def _ended(code: int) -> dict[str, Any]:
    container = {"name": names.CONTAINER, "state": {"terminated": {"exitCode": code}}}
    return {"phase": "Failed", "containerStatuses": [container]}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Asking:
    """A canary that asks the played cluster."""

    def __init__(self, played: Played) -> None:
        self.canary = Canary(cast("KubeClient", played), INSTALLATION, played.clock, "busybox", API, "here")
        self.task = asyncio.create_task(self.canary.run(Fence()))

    @property
    def holds(self) -> bool | None:
        return self.canary.verdict.holds

    async def let_go(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def turns(clock: ManualClock, seconds: float) -> None:
    """Let the time go by, and what waits for the cluster go on."""
    for _ in range(int(seconds)):
        for _ in range(50):
            await asyncio.sleep(0)
        await clock.advance(1)


async def test_both_try_from_one_node_and_leave_nothing(clock: ManualClock):
    played = Played(clock)
    played.ends = False
    asking = Asking(played)
    await turns(clock, 3)
    (fenced,) = [pod for pod in played.pods.values() if "initContainers" not in pod["spec"]]
    (free,) = [pod for pod in played.pods.values() if "initContainers" in pod["spec"]]
    during = asking.holds
    played.ends = True
    await turns(clock, 3)
    holds = asking.holds
    await asking.let_go()

    (term,) = fenced["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]
    assert free["spec"]["activeDeadlineSeconds"] == 1  # and before it was told to end, the other had ended
    assert (during, holds) == (None, True)
    assert played.namespaces == {}


async def test_what_passes_is_asked_again_soon_and_what_lasts_ever_more_rarely(clock: ManualClock):
    played = Played(clock)
    played.away = True
    asking = Asking(played)
    await turns(clock, 700)
    away = asking.canary.verdict
    played.away = False
    await turns(clock, 200)
    holds = asking.holds
    await asking.let_go()
    rests = [later - earlier for earlier, later in zip(played.tries, played.tries[1:], strict=False)]

    assert away.holds is None
    assert "gives no answer" in away.message
    assert rests[:5] == pytest.approx([10, 20, 40, 80, 160], abs=2)
    assert max(rests) <= 170
    assert holds


async def test_a_canary_that_somebody_deleted_is_asked_again_soon(clock: ManualClock):
    played = Played(clock)
    played.ends = False
    asking = Asking(played)
    await turns(clock, 3)
    played.pods.clear()
    played.ends = True
    await turns(clock, 3)
    deleted = asking.canary.verdict
    await turns(clock, 15)
    holds = asking.holds
    await asking.let_go()

    assert deleted.holds is None
    assert "was deleted" in deleted.message
    assert holds


async def test_a_free_one_that_ended_before_the_other_did_has_not_seen_all_of_it(clock: ManualClock):
    played = Played(clock)
    played.ends = False
    asking = Asking(played)
    await turns(clock, 3)
    played.drained = True
    await turns(clock, 1)
    played.ends = True
    await turns(clock, 3)
    verdict = asking.canary.verdict
    await asking.let_go()

    assert verdict.holds is None
    assert "not reached all the while" in verdict.message


async def test_servers_of_one_installation_ask_at_the_same_time(clock: ManualClock):
    """One of them is let go meanwhile, with what it made and nothing else."""
    played = Played(clock)
    played.ends = False
    first, second, third = Asking(played), Asking(played), Asking(played)
    await turns(clock, 3)
    standing = len(played.namespaces)
    await second.let_go()
    left = len(played.namespaces)
    played.ends = True
    await turns(clock, 3)
    told = first.holds, third.holds
    await first.let_go()
    await third.let_go()

    assert (standing, left) == (6, 4)
    assert told == (True, True)
    assert len(played.tries) == 3
    assert played.namespaces == {}


async def test_what_a_killed_server_left_goes_by_its_age(clock: ManualClock):
    played = Played(clock)
    played.made("neuropod-aaaaaaaa", seconds_ago=3600)
    played.made("neuropod-bbbbbbbb", seconds_ago=60)  # perhaps another server's that asks now
    played.made("neuropod-cccccccc", seconds_ago=3600, deletionTimestamp="2026-01-01T00:00:00Z")
    asking = Asking(played)
    await turns(clock, 5)
    at_first = sorted(played.namespaces)
    await turns(clock, 700)
    later = sorted(played.namespaces)
    await asking.task

    assert at_first == ["neuropod-bbbbbbbb", "neuropod-cccccccc"]
    assert later == ["neuropod-cccccccc"]  # which goes already


async def test_what_a_killed_server_left_goes_at_its_next_start(clock: ManualClock):
    played = Played(clock)
    played.made("neuropod-aaaaaaaa", seconds_ago=5, annotations={names.CANARY_OF: "here"})
    played.made("neuropod-bbbbbbbb", seconds_ago=5, annotations={names.CANARY_OF: "elsewhere"})
    asking = Asking(played)
    await turns(clock, 1)
    there = set(played.namespaces)
    await asking.let_go()

    assert "neuropod-aaaaaaaa" not in there
    assert "neuropod-bbbbbbbb" in there


async def test_a_namespace_of_that_name_that_is_there_is_not_touched(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    played = Played(clock)
    played.made("neuropod-aaaaaaaa", labels={})
    monkeypatch.setattr(canary, "user_hash", lambda _: "aaaaaaaa")
    asking = Asking(played)
    await turns(clock, 3)
    holds = asking.holds
    await asking.let_go()

    assert holds is None
    assert list(played.namespaces) == ["neuropod-aaaaaaaa"]
