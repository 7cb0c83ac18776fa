"""Reading a log whose node gives it in part or not at all: never short without saying so."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from neuropod.ids import InstallationId, PodId
from neuropod.kit.tasks import FailureHook, TaskSet
from neuropod.kube.errors import ForbiddenError, InvalidError, KubeError, KubeUnavailableError
from neuropod.runtimes.contract import LogQuery, RuntimeUnavailableError, WorkloadId
from neuropod.runtimes.kubernetes import logs, names
from neuropod.runtimes.kubernetes.logs import ClusterLogs
from neuropod.runtimes.kubernetes.shapes import (
    ContainerState,
    ContainerStatus,
    PodMetadata,
    PodShape,
    PodStatus,
    Running,
    Terminated,
)
from neuropod.settings import LimitSettings
from support.clocks import ManualClock

ONE = WorkloadId(InstallationId("ins_1"), PodId("pod_1"), 1)
AT = datetime(2026, 1, 1, tzinfo=UTC)
RUNS = ContainerState(running=Running(started_at=AT))
ENDED = ContainerState(terminated=Terminated(started_at=AT, finished_at=AT))
WHOLE = ["one", "two", "three"]
NOT_YET = InvalidError(400, "BadRequest", "container is waiting to start")
CUT = KubeUnavailableError("a stream was cut")


def pod(state: ContainerState, phase: str) -> PodShape:
    labels = {names.INSTALLATION: ONE.installation, names.POD: ONE.pod, names.INCARNATION: str(ONE.incarnation)}
    return PodShape(
        metadata=PodMetadata(name="lab", namespace="neuropod-abcdefgh", uid="u1", labels=labels),
        status=PodStatus(phase=phase, container_statuses=(ContainerStatus(name=names.CONTAINER, state=state),)),
    )


class Stream:
    """What a node gives of a log: batches of lines, and how it ends."""

    def __init__(self, *batches: list[bytes], cut: bool = False) -> None:
        self._batches = list(batches)
        self._cut = cut

    async def read(self) -> list[bytes] | None:
        if self._batches:
            return self._batches.pop(0)
        if self._cut:
            raise CUT
        return None

    def close(self) -> None: ...


def whole() -> Stream:
    return Stream([b"one", b"two"], [b"three"])


def cut() -> Stream:
    return Stream([b"one"], cut=True)


class Node:
    """Plays the client, what stands, and the watch: one Pod, and what comes of each look at its log."""

    fresh = False

    def __init__(self) -> None:
        self.pod: PodShape | None = pod(RUNS, "Running")
        self.looks: list[Stream | KubeError | KubeUnavailableError] = []
        self.followed: list[str] = []
        self.ends_at: int | None = None  # at that look its process has ended

    async def open_lines(self, path: str, params: Mapping[str, Any]) -> Stream:
        if len(self.followed) == self.ends_at:
            self.pod = pod(ENDED, "Succeeded")
        self.followed.append(params["follow"])
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]  # the last one for good
        if isinstance(found, Exception):
            raise found
        return found

    async def find(self, workload_id: WorkloadId) -> PodShape | None:
        return self.pod

    find_exact = find


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(logs, "_LOOK_AGAIN_SECONDS", 0.01)
    return Node()


@pytest.fixture
async def kept(node: Node, tmp_path: Path):
    tasks, played = TaskSet(FailureHook()), node
    client: Any = played
    yield ClusterLogs(client, client, client, tmp_path / "logs", LimitSettings(), ManualClock(), tasks)
    await tasks.aclose()


async def read(kept: ClusterLogs, **query: Any) -> list[str]:
    async with asyncio.timeout(20):
        return [line.text async for line in kept.lines(ONE, LogQuery(**query))]


@pytest.mark.parametrize("state", [(RUNS, "Running"), (ENDED, "Succeeded")], ids=["runs", "ended"])
@pytest.mark.parametrize("first", [cut, lambda: NOT_YET], ids=["cut", "none"])
async def test_what_was_not_given_to_its_end_is_read_again(node: Node, kept: ClusterLogs, state, first):
    node.pod = pod(*state)
    node.looks = [first(), whole()]

    assert await read(kept) == WHOLE
    assert node.followed == ["false", "false"]


async def test_a_tail_is_one_of_the_whole_log(node: Node, kept: ClusterLogs):
    node.looks = [cut(), whole()]

    assert await read(kept, tail=2) == ["two", "three"]


@pytest.mark.parametrize("state", [(RUNS, "Running"), (ENDED, "Succeeded")], ids=["runs", "ended"])
@pytest.mark.parametrize("query", [{}, {"tail": 5}])
async def test_what_is_never_given_to_its_end_is_said_to_be_short(node: Node, kept: ClusterLogs, state, query):
    node.pod = pod(*state)
    node.looks = [cut(), cut(), cut(), whole()]

    with pytest.raises(RuntimeUnavailableError, match="cannot be read to its end: a stream was cut"):
        await read(kept, **query)


@pytest.mark.parametrize("error", [NOT_YET, ForbiddenError(403, "Forbidden", "no"), CUT])
async def test_a_node_that_gives_no_log_is_no_empty_log(node: Node, kept: ClusterLogs, error: Exception):
    node.looks = [error]

    with pytest.raises(RuntimeUnavailableError):
        await read(kept)


async def test_a_follower_is_told_that_the_end_is_missing(node: Node, kept: ClusterLogs):
    node.looks = [cut()]
    node.ends_at = 4

    with pytest.raises(RuntimeUnavailableError, match="cannot be read to its end"):
        await read(kept, follow=True)
    assert node.followed == ["true"] * 5 + ["false"] * 3  # while it runs there may be more, however often that is cut


async def test_a_follower_whose_stream_is_cut_at_the_end_has_the_rest_too(node: Node, kept: ClusterLogs):
    node.looks = [cut(), cut(), whole()]
    node.ends_at = 0

    assert await read(kept, follow=True) == WHOLE


async def test_what_was_cut_and_is_kept_by_now_is_read_on_from_there(node: Node, kept: ClusterLogs):
    ended = pod(ENDED, "Succeeded")
    node.pod, node.looks = ended, [cut(), whole()]
    reading = kept.lines(ONE, LogQuery())
    first = await anext(reading)
    await kept.record(ended)
    node.pod = None

    assert [first.text, *[line.text async for line in reading]] == WHOLE


async def test_a_log_that_was_cut_and_went_with_its_pod_is_said_to_be_short(node: Node, kept: ClusterLogs):
    node.looks = [cut()]
    reading = kept.lines(ONE, LogQuery())
    await anext(reading)
    node.pod = None

    with pytest.raises(RuntimeUnavailableError, match="cannot be read to its end"):
        await anext(reading)


async def test_what_never_ran_has_printed_nothing(node: Node, kept: ClusterLogs):
    node.pod = pod(ContainerState(), "Pending")

    assert await read(kept) == []
    assert node.followed == []


async def test_nothing_is_known_of_what_is_not_there(node: Node, kept: ClusterLogs):
    node.pod = None

    assert await read(kept) == await read(kept, follow=True) == []


async def test_a_log_that_may_not_be_read_for_a_while_is_not_recorded_as_lost(node: Node, kept: ClusterLogs):
    ended = pod(ENDED, "Succeeded")
    node.pod, node.looks = ended, [ForbiddenError(403, "Forbidden", "no"), whole()]

    with pytest.raises(RuntimeUnavailableError, match="cannot be read yet"):
        await kept.record(ended)
    await kept.record(ended)

    assert await read(kept) == WHOLE


async def test_a_log_that_its_node_has_not_any_more_is_recorded_as_lost(node: Node, kept: ClusterLogs):
    ended = pod(ENDED, "Succeeded")
    node.pod, node.looks = ended, [NOT_YET]

    await kept.record(ended)
    (line,) = await read(kept)

    assert "the log is lost" in line


async def test_a_recording_that_is_cut_is_none(node: Node, kept: ClusterLogs):
    ended = pod(ENDED, "Succeeded")
    node.pod, node.looks = ended, [cut(), whole()]

    with pytest.raises(RuntimeUnavailableError, match="cannot be read yet"):
        await kept.record(ended)
    await kept.record(ended)

    assert await read(kept) == WHOLE
