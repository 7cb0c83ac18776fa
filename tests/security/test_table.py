"""Every attack of SECURITY.md has its tests, or names the issue that builds what it is about. A gap fails."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLUSTER = HERE.parent / "cluster"

# Item → the part it is about. Its tests are the files `test_<item>_….py` beside this one.
TESTED = {
    1: "loaders and PATH in a pod's environment",
    2: "package lists that run code",
    3: "pods mixed up by shared connections",
    4: "the kernel's doors from inside",
    5: "links in a workspace",
    6: "egress",
    7: "ports without root",
    8: "stale identities",
    9: "using up the machine",
    10: "GPU theft",
    11: "routes without a gate",
    12: "forward-auth carriers",
    17: "pages of one pod that drive another",
    18: "cookies tossed for the parent domain",
    19: "tickets",
    20: "pages on the pod's own origin",
    21: "host confusion and forged headers",
    22: "smuggling",
    23: "shared caches",
    24: "streams that outlive a revocation",
    25: "Jupyter's token in history, Referer, logs",
    27: "keys that make keys",
    28: "an Idempotency-Key of another",
    30: "what is not asked for, and what is others'",
    31: "floods of sign-ins",
    32: "one-time links",
    33: "strangers' text as escapes and scripts",
    34: "what is for operators",
    35: "secrets at rest",
}

# Item → the part. Its tests need a real cluster: they are files of that number in tests/cluster (make test-cluster).
ON_A_CLUSTER = {
    13: "the server's account",
    14: "NetworkPolicies that nothing enforces",
    15: "root, fork bombs and others' images in pods",
    16: "hashes that collide, and deleted data",
}

# Item → the issue that builds the part, and what of it is tested already.
LATER = {
    26: "ledger: charging from process start; started_at is recorded and tested in tests/reconcile",
    29: "ledger: money; the locked account row and its limit are tested in tests/services/pods",
    36: "payments and mail: webhooks",
}


def test_every_item_has_a_place():
    assert sorted([*TESTED, *ON_A_CLUSTER, *LATER]) == list(range(1, 37))


@pytest.mark.parametrize("item", [*TESTED, *ON_A_CLUSTER])
def test_a_tested_item_has_tests(item: int):
    place = CLUSTER if item in ON_A_CLUSTER else HERE
    files = list(place.glob(f"test_{item:02}_*.py"))

    assert files, f"SECURITY {item} ({(TESTED | ON_A_CLUSTER)[item]}) has no test"
    assert any("def test_" in file.read_text() for file in files)


def test_no_tests_are_for_an_item_that_is_not_in_the_table():
    here, there = ({int(file.name[5:7]) for file in place.glob("test_[0-9][0-9]_*.py")} for place in (HERE, CLUSTER))

    assert here <= TESTED.keys() | LATER.keys()
    assert there <= TESTED.keys() | ON_A_CLUSTER.keys()
