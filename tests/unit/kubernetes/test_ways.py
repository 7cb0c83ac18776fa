"""How Pods are made on a cluster, by what its nodes say when it is opened."""

import pytest

from neuropod.runtimes.kubernetes.cluster import ways_of
from neuropod.runtimes.kubernetes.shapes import (
    Condition,
    HandlerFeatures,
    Metadata,
    NodeShape,
    NodeSpec,
    NodeStatus,
    RuntimeHandler,
    Taint,
)
from neuropod.settings import ClusterSettings

UNREACHABLE = Taint("node.kubernetes.io/unreachable", "NoExecute")
CONTROL_PLANE = Taint("node-role.kubernetes.io/control-plane", "NoSchedule")


def node(*taints: Taint, can: bool, ready: bool = True) -> NodeShape:
    handlers = (RuntimeHandler("", HandlerFeatures(user_namespaces=can)),)
    condition = Condition(type="Ready", status="True" if ready else "Unknown")
    status = NodeStatus(conditions=(condition,), runtime_handlers=handlers)
    return NodeShape(metadata=Metadata(name="node"), spec=NodeSpec(taints=taints), status=status)


@pytest.mark.parametrize(
    ("nodes", "can"),
    [
        ([node(can=True)], True),
        ([node(can=True), node(can=False)], False),
        ([node(can=True), node(CONTROL_PLANE, can=False)], True),
        ([node(UNREACHABLE, can=False, ready=False)], False),
        ([node(UNREACHABLE, can=True, ready=False)], True),
        ([node(can=True), node(UNREACHABLE, can=False, ready=False)], False),
        ([node(CONTROL_PLANE, can=True)], False),
        ([], False),
    ],
    ids=[
        "all can", "one cannot", "one that takes no pods cannot", "one cannot, and is away", "one can, and is away",
        "one that is away cannot", "none takes pods", "no nodes",
    ],
)  # fmt: skip
def test_root_in_a_pod_is_nobody_where_every_node_that_ever_takes_pods_can_do_that(nodes: list[NodeShape], can: bool):
    assert ways_of(ClusterSettings(name="lab", in_cluster=True), nodes).user_namespaces is can
