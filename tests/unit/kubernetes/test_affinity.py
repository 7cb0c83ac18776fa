"""Which nodes a volume's selector means, by the rules of Kubernetes; and where volumes can be used by that."""

from typing import Any

import msgspec
import pytest

from neuropod.ids import VolumeId
from neuropod.kit.clock import SystemClock
from neuropod.kube.access import Access
from neuropod.kube.client import KubeClient
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.affinity import matches
from neuropod.runtimes.kubernetes.bound import BoundVolumes, hosts_of, kept_on
from neuropod.runtimes.kubernetes.shapes import ClaimShape, NodeSelectorShape, NodeShape, PersistentVolumeShape

LABELS = {"zone": "west", "disks": "4", "empty": "", "far": "99999999999999999999"}


def requires(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


def selector(*terms: dict[str, Any]) -> NodeSelectorShape:
    return msgspec.convert({"nodeSelectorTerms": list(terms)}, NodeSelectorShape)


def by_labels(*requirements: dict[str, Any]) -> NodeSelectorShape:
    return selector({"matchExpressions": list(requirements)})


@pytest.mark.parametrize(
    ("requirement", "holds"),
    [
        (requires("zone", "In", "east", "west"), True),
        (requires("zone", "In", "east"), False),
        (requires("none", "In", "east"), False),
        (requires("empty", "In", ""), True),
        (requires("none", "In", ""), False),
        (requires("zone", "NotIn", "east"), True),
        (requires("zone", "NotIn", "west"), False),
        (requires("none", "NotIn", "east"), True),  # what has no such label is not among them
        (requires("empty", "Exists"), True),
        (requires("none", "Exists"), False),
        (requires("none", "DoesNotExist"), True),
        (requires("empty", "DoesNotExist"), False),
        (requires("disks", "Gt", "3"), True),
        (requires("disks", "Gt", "4"), False),
        (requires("disks", "Lt", "5"), True),
        (requires("disks", "Lt", "4"), False),
        (requires("disks", "Gt", "-1"), True),
        (requires("none", "Gt", "1"), False),
        (requires("zone", "Lt", "1"), False),  # no number
        (requires("far", "Gt", "1"), False),  # nor one of 64 bits
    ],
)
def test_each_operator_means_what_it_means_to_kubernetes(requirement: dict[str, Any], *, holds: bool):
    assert matches(by_labels(requirement), LABELS) is holds


@pytest.mark.parametrize(
    "wrong",
    [
        requires("zone", "In"),
        requires("none", "NotIn"),
        requires("zone", "Exists", "west"),
        requires("none", "DoesNotExist", "west"),
        requires("disks", "Gt", "1", "2"),
        requires("disks", "Lt", "five"),
        requires("disks", "Gt", " 3"),
        requires("disks", "Gt", "1_0"),
        requires("zone", "Is", "west"),
        requires("zone", "in", "west"),
    ],
)
def test_what_is_written_wrong_matches_nothing_and_leaves_the_other_terms_alone(wrong: dict[str, Any]):
    right = {"matchExpressions": [requires("zone", "In", "west")]}

    assert not matches(by_labels(wrong), LABELS)
    assert not matches(selector({"matchExpressions": [*right["matchExpressions"], wrong]}), LABELS)
    assert matches(selector({"matchExpressions": [wrong]}, right), LABELS)


def test_one_term_is_enough_and_within_it_all_has_to_hold():
    west, large = requires("zone", "In", "west"), requires("disks", "Gt", "8")

    assert not matches(by_labels(west, large), LABELS)
    assert matches(selector({"matchExpressions": [large]}, {"matchExpressions": [west]}), LABELS)


def test_a_selector_without_terms_and_an_empty_term_match_nothing():
    assert not matches(selector(), LABELS)
    assert not matches(selector({}), LABELS)


def test_fields_are_the_name_alone_with_one_value():
    def named(*requirements: dict[str, Any]) -> NodeSelectorShape:
        return selector({"matchFields": list(requirements)})

    assert matches(named(requires("metadata.name", "In", "a")), LABELS, "a")
    assert not matches(named(requires("metadata.name", "In", "a")), LABELS, "b")
    assert matches(named(requires("metadata.name", "NotIn", "a")), LABELS, "b")
    assert not matches(named(requires("metadata.name", "In", "a", "b")), LABELS, "a")
    assert not matches(named(requires("metadata.name", "Exists")), LABELS, "a")
    assert not matches(named(requires("spec.unschedulable", "In", "a")), LABELS, "a")
    assert not matches(
        selector(
            {
                "matchExpressions": [requires("zone", "In", "west")],
                "matchFields": [requires("metadata.name", "In", "a")],
            }
        ),
        LABELS,
        "b",
    )


def test_without_a_name_fields_are_not_looked_at_as_for_volumes():
    assert matches(selector({"matchFields": [requires("metadata.name", "In", "a")]}), LABELS)


class _Volumes(BoundVolumes):
    """Volumes as a watch would have told them."""

    def __init__(self, **by_name: dict[str, Any] | None) -> None:
        super().__init__(KubeClient(Access("http://nowhere"), SystemClock()), SystemClock())
        for name, affinity in by_name.items():
            spec = {} if affinity is None else {"nodeAffinity": {"required": {"nodeSelectorTerms": [affinity]}}}
            told = {"metadata": {"name": name}, "spec": spec}
            self._volumes._put(("", name), msgspec.convert(told, PersistentVolumeShape))


def node(name: str, zone: str) -> NodeShape:
    return msgspec.convert({"metadata": {"name": name, "labels": {"zone": zone}}}, NodeShape)


def claim(volume: str, bound_to: str) -> ClaimShape:
    told = {
        "metadata": {"name": volume, "namespace": "neuropod-a", "labels": {names.VOLUME: volume}},
        "spec": {"volumeName": bound_to},
    }
    return msgspec.convert(told, ClaimShape)


NODES = [node("a", "west"), node("b", "west"), node("c", "east")]


def test_bound_volumes_are_where_their_volume_says_and_all_others_are_not_told():
    west, away = (
        {"matchExpressions": [requires("zone", "In", "west")]},
        {"matchExpressions": [requires("zone", "In", "gone")]},
    )
    volumes = _Volumes(west=west, away=away, anywhere=None)
    claims = [claim("vol_1", "west"), claim("vol_2", "away"), claim("vol_3", "anywhere"), claim("vol_4", "unknown"),
              claim("vol_5", "")]  # fmt: skip

    assert kept_on(claims, volumes, NODES) == {
        VolumeId("vol_1"): frozenset({"a", "b"}),
        VolumeId("vol_2"): frozenset(),
    }


def test_a_volume_is_tied_to_where_it_is_mounted_else_to_where_its_data_are_unless_that_is_everywhere():
    one, two, three = VolumeId("vol_1"), VolumeId("vol_2"), VolumeId("vol_3")
    kept = {one: frozenset("ab"), two: frozenset("ab"), three: frozenset("abc")}

    assert hosts_of({two: frozenset("b")}, kept, "abc") == {one: frozenset("ab"), two: frozenset("b")}
    assert hosts_of({}, kept, "ab") == {}  # c takes no pods
