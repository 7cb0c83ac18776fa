"""What kubelets' answers mean about the processes that a pod may have."""

import asyncio
import json
from typing import cast

import pytest

from neuropod.kube.errors import KubeUnavailableError
from neuropod.kube.shapes import Metadata
from neuropod.runtimes.kubernetes.pids import PidsLimits, guarantee_of, limit_of
from neuropod.runtimes.kubernetes.shapes import Condition, NodeShape, NodeStatus
from neuropod.runtimes.kubernetes.usage import NodeStats
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from support.clocks import ManualClock


@pytest.mark.parametrize(
    ("config", "limit"),
    [({"podPidsLimit": 1024}, 1024), ({"podPidsLimit": -1}, 0), ({}, 0), ({"podPidsLimit": "many"}, None)],
)
def test_a_kubelet_says_its_limit(config, limit):
    assert limit_of(json.dumps({"kubeletconfig": config})) == limit


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kubeletconfig": null}', "forbidden"])
def test_what_is_no_configuration_says_nothing(text):
    assert limit_of(text) is None


@pytest.mark.parametrize(
    ("limits", "holds", "told"),
    [
        ({"a": 1024, "b": 4096}, True, "1024 at least"),
        ({"a": 1024, "b": 0}, False, "any number of processes on b"),
        ({"a": 0, "b": 0, "c": None}, False, "a and 1 more"),
        ({"a": 1024, "b": None}, False, "not known of b"),
        ({}, False, "is not known."),
    ],
)
def test_it_holds_where_every_node_has_a_limit(limits, holds, told):
    guarantee = guarantee_of(limits)

    assert guarantee.holds is holds
    assert told in guarantee.message


class Kubelets:
    """The one node of a cluster and its kubelet, both of which may be away."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.silent = False
        self.ready = True
        self.asked: list[float] = []

    def nodes(self) -> list[NodeShape]:
        ready = Condition(type="Ready", status=str(self.ready))
        return [NodeShape(metadata=Metadata(name="a"), status=NodeStatus(conditions=(ready,)))]

    async def text(self, node: str, path: str) -> str:
        assert (node, path) == ("a", "/configz")
        self.asked.append(self.clock.monotonic())
        if self.silent:
            raise KubeUnavailableError("no answer")
        return json.dumps({"kubeletconfig": {"podPidsLimit": 1024}})

    async def told(self, *steps: tuple[float, str, bool]) -> list[bool]:
        """Return what the guarantee is after so many seconds each, before that is changed."""
        pids = PidsLimits(cast("NodeStats", self), cast("ClusterWatch", self), self.clock)
        task = asyncio.create_task(pids.run())
        told = []
        for seconds, what, value in steps:
            await asyncio.sleep(0)
            await self.clock.advance(seconds)
            told.append(pids.guarantee.holds)
            setattr(self, what, value)
        task.cancel()
        return told


async def test_a_kubelet_that_was_silent_is_asked_again_soon_and_then_hourly():
    kubelets = Kubelets(ManualClock())
    kubelets.silent = True

    told = await kubelets.told(
        (5, "silent", False), (10, "silent", True), (3600, "silent", False), (25, "silent", True)
    )

    assert told == [False, True, False, True]
    assert kubelets.asked == [0, 10, 3610, 3620]


async def test_one_that_never_tells_is_asked_rarely():
    kubelets = Kubelets(ManualClock())
    kubelets.silent = True

    await kubelets.told((3600, "silent", True))

    assert kubelets.asked[:6] == [0, 10, 30, 70, 150, 310]
    assert len(kubelets.asked) < 20


async def test_a_node_that_is_not_there_yet_is_looked_for_again_soon():
    kubelets = Kubelets(ManualClock())
    kubelets.ready = False

    assert await kubelets.told((5, "ready", True), (10, "ready", True)) == [False, True]
