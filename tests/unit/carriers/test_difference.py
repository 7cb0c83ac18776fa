"""What has to be applied and what has gone from being wanted."""

import dataclasses

import msgspec
import pytest

from neuropod.gateway.carriers.difference import APPLY_ORDER, Applied, Difference, Standing, difference
from neuropod.gateway.carriers.objects import Ref, wanted_objects
from neuropod.kube.kinds import ENDPOINT_SLICES, INGRESSES, MIDDLEWARES, SERVICES
from unit.carriers.test_objects import NS, PODS, PORT, READY, STOPPED, TRAEFIK

WANTED = wanted_objects(TRAEFIK, [STOPPED], PODS)


def _standing(objects=WANTED, **changes):
    """Return the objects as the cluster has them, `changes` made to each by its kind's name."""
    made = {}
    for ref, obj in objects.items():
        found = msgspec.json.decode(msgspec.json.encode(obj))
        found["metadata"] |= {"uid": "u", "resourceVersion": "1"}
        found.setdefault("spec", {})["clusterIP"] = "10.1.2.3"  # what the cluster adds
        if ref.kind.kind in changes and ref.name.startswith(PORT):
            changes[ref.kind.kind](found)
        made[ref] = msgspec.convert(found, Standing)
    return made


def test_what_stands_as_wanted_is_left_alone():
    assert difference(WANTED, _standing(), Applied()) == Difference((), ())


def test_what_is_not_there_is_applied_in_order():
    found = difference(WANTED, {}, Applied())

    places = [APPLY_ORDER.index(ref.kind) for ref in found.apply]
    assert set(found.apply) == set(WANTED)
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Service", lambda obj: obj["spec"]["selector"].update({"neuropod.io/incarnation": "1"})),
        ("Service", lambda obj: obj["spec"]["ports"].append({"name": "more", "port": 1})),
        ("Ingress", lambda obj: obj["metadata"]["annotations"].clear()),
        ("Ingress", lambda obj: obj["spec"]["rules"].append({"host": "more"})),
        ("Middleware", lambda obj: obj.update(spec={"headers": {}})),
        ("EndpointSlice", lambda obj: obj["endpoints"][0]["addresses"].append("10.0.0.8")),
        ("Service", lambda obj: obj["metadata"]["labels"].update({"neuropod.io/installation": "npd_2"})),
        ("Service", lambda obj: obj["metadata"].update({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
    ],
)
def test_what_somebody_changed_is_put_back(kind, change):
    assert {ref.kind.kind for ref in difference(WANTED, _standing(**{kind: change}), Applied()).apply} == {kind}


def test_what_others_add_is_theirs():
    def annotate(obj):
        obj["metadata"].setdefault("annotations", {})["example.org/x"] = "y"

    assert difference(WANTED, _standing(Service=annotate, Ingress=annotate), Applied()).apply == ()


def test_what_nobody_wants_is_told_with_what_leads_to_it_first():
    found = difference({}, _standing(), Applied())

    assert [kind.kind for kind in dict.fromkeys(ref.kind for ref in found.unwanted)] == [
        "Ingress", "Service", "EndpointSlice", "Middleware",
    ]  # fmt: skip
    assert INGRESSES is found.unwanted[0].kind


def test_a_pod_that_becomes_ready_needs_its_service_first_and_its_way_to_the_gateway_no_more():
    found = difference(wanted_objects(TRAEFIK, [READY], PODS), _standing(), Applied())

    assert found.apply == (Ref(SERVICES, NS, f"{PORT}-service"),)
    assert found.unwanted == (Ref(ENDPOINT_SLICES, NS, f"{PORT}-gate"),)


def test_what_the_cluster_drops_is_not_applied_again_until_something_changes():
    ref = Ref(MIDDLEWARES, NS, f"{PORT}-gate")
    applied = Applied()

    def older(obj):
        obj["spec"].get("forwardAuth", {}).pop("maxResponseBodySize", None)

    standing = _standing(Middleware=older)
    assert difference(WANTED, standing, applied).apply == (ref,)
    applied.note(ref, WANTED[ref], "1")
    assert difference(WANTED, standing, applied).apply == ()

    changed = dataclasses.replace(TRAEFIK, gate=dataclasses.replace(TRAEFIK.gate, url="http://other:1"))
    assert ref in difference(wanted_objects(changed, [STOPPED], PODS), standing, applied).apply
