"""What kubelets' answers mean about the processes that a pod may have."""

import json

import pytest

from neuropod.runtimes.kubernetes.pids import guarantee_of, limit_of


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
