"""What of the watch counts as a look at a Pod: what was told of it a moment ago, and nothing older than an answer."""

import msgspec
import pytest

from neuropod.ids import InstallationId, PodId
from neuropod.kit.clock import SystemClock
from neuropod.kube.access import Access
from neuropod.kube.client import KubeClient
from neuropod.runtimes.contract import WorkloadId
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.shapes import (
    ContainerState,
    ContainerStatus,
    PodMetadata,
    PodShape,
    PodStatus,
    Running,
)
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from support.clocks import ManualClock

INSTALLATION = InstallationId("ins_1")
ONE = WorkloadId(INSTALLATION, PodId("pod_1"), 1)
KEY = ("neuropod-aaaa2222", "lab-aaaa2222")


def pod(
    version: int, *, uid: str = "u1", incarnation: int = 1, running: bool = True, finalizers: tuple[str, ...] = ()
) -> PodShape:
    labels = {names.INSTALLATION: INSTALLATION, names.POD: "pod_1", names.INCARNATION: str(incarnation)}
    state = ContainerState(running=Running() if running else None)
    return PodShape(
        metadata=PodMetadata(
            name=KEY[1],
            namespace=KEY[0],
            uid=uid,
            resource_version=str(version),
            labels=labels,
            finalizers=finalizers,
        ),
        status=PodStatus(container_statuses=(ContainerStatus(name=names.CONTAINER, state=state),)),
    )


class _Watch:
    """A watch whose informer is told by hand."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.watch = ClusterWatch(KubeClient(Access("http://nowhere"), SystemClock()), INSTALLATION, self.clock)
        self.watch._pods._fresh.set()

    def tell(self, obj: PodShape | None) -> None:
        """Tell what is there now; None: what was there is gone."""
        kind, shown = ("DELETED", self.watch.at(KEY)) if obj is None else ("MODIFIED", obj)
        self.watch._pods._take(msgspec.json.encode({"type": kind, "object": shown}))

    def is_gone(self, workload_id: WorkloadId = ONE) -> bool:
        return self.watch.is_told_gone(workload_id)

    def lately(self) -> str | None:
        found = self.watch.lately(ONE)
        return None if found is None else found.metadata.resource_version


@pytest.fixture
async def told() -> _Watch:
    return _Watch()


async def test_what_was_told_a_moment_ago_is_a_look_and_later_it_is_none(told: _Watch):
    told.tell(pod(5))
    at_once = told.lately()
    await told.clock.advance(2.1)

    assert (at_once, told.lately()) == ("5", None)


async def test_what_the_watch_told_of_another_says_that_this_one_is_as_it_was(told: _Watch):
    told.tell(pod(5))
    await told.clock.advance(60)
    told.watch._pods._take(msgspec.json.encode({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}))

    assert told.lately() == "5"


async def test_an_end_that_was_told_is_one_until_something_comes_after_it(told: _Watch):
    told.tell(pod(5))
    before = told.is_gone()
    told.tell(None)
    gone = told.is_gone(), told.is_gone(WorkloadId(INSTALLATION, ONE.pod, 2))
    told.watch.answered(KEY, pod(9, uid="u2", incarnation=2))
    told.tell(pod(9, uid="u2", incarnation=2))
    after = told.is_gone()
    told.tell(None)
    told.watch._pods._cut("for a test")

    assert (before, gone, after) == (False, (True, False), False)
    assert not told.is_gone(WorkloadId(INSTALLATION, ONE.pod, 2))


async def test_a_cut_watch_tells_nothing(told: _Watch):
    told.tell(pod(5))
    told.watch._pods._cut("for a test")

    assert told.lately() is None


async def test_an_answer_counts_until_the_watch_has_come_as_far(told: _Watch):
    told.tell(pod(5))
    told.watch.answered(KEY, pod(7))
    answered = told.lately()
    told.tell(pod(6))  # on its way since before
    behind = told.lately()
    told.tell(pod(8))

    assert (answered, behind, told.lately()) == ("7", "7", "8")


async def test_an_answer_that_was_overtaken_changes_nothing(told: _Watch):
    told.tell(pod(5))
    told.watch.answered(KEY, pod(7))
    told.watch.answered(KEY, pod(6))
    late = told.lately()
    told.tell(pod(9))
    told.watch.answered(KEY, pod(8))

    assert (late, told.lately()) == ("7", "9")


async def test_what_we_deleted_is_looked_at_live_until_it_is_gone(told: _Watch):
    told.tell(pod(5))
    told.watch.answered(KEY, None)
    told.tell(pod(6))
    told.watch.answered(KEY, pod(6))
    before = told.lately()
    told.tell(None)
    gone = told.lately()
    told.tell(pod(9, uid="u2"))

    assert (before, gone, told.lately()) == (None, None, "9")


async def test_what_was_deleted_on_our_word_is_gone_unless_something_holds_it(told: _Watch):
    held = pod(5, finalizers=("somebody/else",))
    told.tell(held)
    told.watch.deleted(KEY, held)
    still_there = told.is_gone()
    told.watch.deleted(KEY, pod(6))
    gone = told.is_gone(), told.is_gone(WorkloadId(INSTALLATION, ONE.pod, 2))
    told.tell(pod(6))  # on its way since before
    behind = told.is_gone()
    told.tell(None)
    told_too = told.is_gone()
    told.tell(pod(9, uid="u2"))

    assert (still_there, gone, behind, told_too) == (False, (True, False), True, True)
    assert not told.is_gone()


async def test_another_incarnation_is_not_the_one_that_is_asked_for(told: _Watch):
    told.tell(pod(5, incarnation=2))

    assert told.lately() is None


async def test_steps_of_a_quick_start_nudge_nobody_and_its_running_does(told: _Watch):
    nudged: list[PodId] = []
    told.watch.nudges.send = nudged.append  # type: ignore[method-assign]
    told.tell(pod(5, running=False))
    told.tell(pod(6, running=False))
    steps = list(nudged)
    told.tell(pod(7))
    told.watch.close()

    assert (steps, nudged) == ([], [PodId("pod_1")])
