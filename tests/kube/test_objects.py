"""The pure pieces of objects."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuropod.kube.kinds import DEPLOYMENTS, KINDS, NAMESPACES, NODES, PODS, kind_of
from neuropod.kube.objects import (
    bytes_quantity,
    contains,
    count_of,
    cpu_quantity,
    is_label_value,
    milli_of,
    owner_reference,
    parse_quantity,
    selector,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("2", 2),
        ("500m", Fraction(1, 2)),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("100n", Fraction(1, 10**7)),
        ("7u", Fraction(7, 10**6)),
        ("2k", 2000),
        ("3M", 3_000_000),
        ("1E", 10**18),
        ("1e3", 1000),
        ("12E2", 1200),
        ("1.5e-1", Fraction(3, 20)),
        ("1Ki", 1024),
        ("1.5Gi", 3 * 2**29),
        ("2Ei", 2**61),
        ("-1Mi", -(2**20)),
        (2, 2),
        (0.1, Fraction(1, 10)),
    ],
)
def test_a_quantity_is_a_number(text, value):
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1KI", "1Kib", "one", "1e", "0x10", "1_000", "1e9999"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError):
        parse_quantity(text)


@given(st.integers(min_value=0, max_value=2**70))
def test_bytes_and_cores_are_written_as_they_are_read(count):
    assert parse_quantity(bytes_quantity(count)) == count
    assert milli_of(cpu_quantity(count)) == count


def test_what_can_be_promised_is_rounded_down():
    assert count_of("3999m") == 3
    assert count_of("1.9Ki") == 1945
    assert milli_of("1999999u") == 1999
    assert bytes_quantity(3 * 2**30) == "3Gi"
    assert cpu_quantity(1500) == "1500m"


def test_paths_are_those_of_the_api():
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("n", "p", "log") == "/api/v1/namespaces/n/pods/p/log"
    assert DEPLOYMENTS.path("n") == "/apis/apps/v1/namespaces/n/deployments"
    assert NAMESPACES.path(None, "n") == "/api/v1/namespaces/n"
    assert NODES.path("ignored", "n", "proxy/metrics/resource") == "/api/v1/nodes/n/proxy/metrics/resource"


def test_an_object_says_its_kind():
    assert kind_of({"apiVersion": "v1", "kind": "Pod"}) is PODS
    assert len(KINDS) > 20
    with pytest.raises(LookupError):
        kind_of({"apiVersion": "v1", "kind": "Podd"})


def test_owner_and_selector():
    owner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u"}}

    assert owner_reference(owner, controller=True) == {
        "apiVersion": "v1",
        "kind": "Pod",
        "name": "p",
        "uid": "u",
        "controller": True,
    }
    assert selector({"b": "2", "a": None}) == "a,b=2"
    assert is_label_value("")
    assert is_label_value("a.b_c-1")
    assert not is_label_value("-a")
    assert not is_label_value("a" * 64)


def test_an_object_contains_what_was_wanted_whatever_it_has_besides():
    actual = {"spec": {"ports": [{"port": 1, "protocol": "TCP"}], "type": "ClusterIP"}, "status": {}}

    assert contains(actual, {"spec": {"ports": [{"port": 1}]}})
    assert not contains(actual, {"spec": {"ports": [{"port": 2}]}})
    assert not contains(actual, {"spec": {"ports": []}})
    assert not contains(actual, {"spec": {"selector": {}}})
    assert not contains({"spec": None}, {"spec": {}})
