"""Networks of pods: what is refused, how ranges and slots are chosen, and both modes tried in a world of their own."""

import subprocess
from pathlib import Path

import pytest

from neuropod.runtimes.local import filters, rootnet, slots
from neuropod.runtimes.local.netplan import NetworkPlan
from neuropod.runtimes.local.tools import Tools
from runtimes.local import world
from support.programs import machine_tools


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "169.254.169.254", "172.16.0.1",
        "172.31.255.255", "192.168.1.1", "224.0.0.1", "255.255.255.255", "::1", "fd00::1", "fc00::1", "fe80::1",
        "ff02::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a00:1", "2002:a00:1::",
    ],
)  # fmt: skip
def test_private_addresses_are_refused(address: str):
    assert filters.is_refused(address, ())


@pytest.mark.parametrize("address", ["8.8.8.8", "100.63.0.1", "172.32.0.1", "192.0.2.1", "2001:4860:4860::8888"])
def test_public_addresses_are_not(address: str):
    assert not filters.is_refused(address, ())


def test_an_exception_covers_its_network_and_no_more():
    allowed = ("10.1.0.0/16", "fd00:1::/32")

    assert not filters.is_refused("10.1.2.3", allowed)
    assert not filters.is_refused("fd00:1::5", allowed)
    assert filters.is_refused("10.2.2.3", allowed)


def test_names_of_interfaces_fit_the_kernel_for_every_slot():
    assert len(f"{filters.link_prefix('inst_1')}{rootnet._SLOTS - 1}") <= 15
    assert filters.link_prefix("inst_1") != filters.link_prefix("inst_2")


def test_a_range_that_the_host_uses_is_not_taken():
    candidates = ("10.213.0.0/16", "172.29.0.0/16")

    assert rootnet.free_range(["192.168.1.0/24"], candidates) == "10.213.0.0/16"
    assert rootnet.free_range(["10.0.0.0/8"], candidates) == "172.29.0.0/16"
    assert rootnet.free_range(["10.213.7.9/32"], candidates) == "172.29.0.0/16"
    with pytest.raises(rootnet.NoRangeError):
        rootnet.free_range(["10.0.0.0/8", "172.16.0.0/12"], candidates)


def test_every_slot_has_a_pair_of_addresses_of_its_own():
    pairs = [rootnet.addresses_of("10.213.0.0/16", slot) for slot in range(rootnet._SLOTS)]

    assert pairs[0] == ("10.213.0.2", "10.213.0.3")
    assert len({address for pair in pairs for address in pair}) == 2 * rootnet._SLOTS
    assert all(address.startswith("10.213.") for pair in pairs for address in pair)


def test_a_slot_is_held_by_one_and_what_its_holder_noted_is_found_when_he_died(tmp_path: Path):
    first, second = slots.take(tmp_path, 3), slots.take(tmp_path, 3)
    first.write({"link": "a"})
    assert (first.number, second.number) == (0, 1)
    assert [note["link"] for note in slots.held(tmp_path)] == ["a"]
    assert list(slots.abandoned(tmp_path)) == []

    first.drop()

    assert [slot.note() for slot in slots.abandoned(tmp_path)] == [{"link": "a"}]
    assert slots.take(tmp_path, 3).note() == {"link": "a"}
    for slot in slots.abandoned(tmp_path):
        slot.leave()
    assert list(slots.abandoned(tmp_path)) == []


def test_all_slots_taken_is_an_error_that_says_so(tmp_path: Path):
    held = [slots.take(tmp_path, 2), slots.take(tmp_path, 2)]

    with pytest.raises(OSError, match="all 2 network slots"):
        slots.take(tmp_path, 2)
    held[0].leave()
    assert slots.take(tmp_path, 2).number == 0


def test_a_plan_survives_the_way_through_json():
    plan = NetworkPlan("root", "inst_1", "/run/x", Tools(nft=("/usr/sbin/nft",)), "10.0.0.0/16", ("10.1.0.0/16",), True)

    assert NetworkPlan.from_json(plan.as_json()) == plan


@pytest.mark.root
@pytest.mark.parametrize("guard", [True, False])
def test_the_kernel_understands_the_rules(tmp_path: Path, guard: bool):
    nft = machine_tools().nft
    allowed = ("10.1.0.0/16", "10.1.2.0/24", "fd00::/8", "192.168.1.5")

    for rules in (
        filters.root_rules("inst_1", "10.213.0.0/16", allowed, guard=guard),
        filters.root_rules("inst_1", "10.213.0.0/16", (), guard=guard),
        filters.user_rules(allowed, ["192.0.2.2", "::1", "127.0.0.1"]),
        filters.user_rules((), []),
    ):
        subprocess.run(["unshare", "--net", *nft, "-f", "-"], input=rules, text=True, check=True)


REFUSED = {"OSError", "TimeoutError", "ConnectionRefusedError"}
NEVER = ("private machine", "metadata", "host", "host's private address", "own loopback", "everything", "over IPv6")


@pytest.mark.root
def test_a_pod_reaches_the_internet_and_nothing_else_and_leaves_the_host_as_it_was(tmp_path: Path):
    found = world.tried("as_root", tmp_path / "work")

    assert found["internet"] == "192.0.2.2"
    for what in (*NEVER, "gateway", "neighbour"):
        assert found[what] in REFUSED, what
    # Three datagrams were sent; the two under forged addresses went nowhere.
    assert found["senders as the pod hears"] == found["senders"] == "192.0.2.2"
    assert found["forged datagrams"] == ["sent", "sent"]
    # And the other way: nobody reaches a pod but by its shim.
    assert found["from the host"] in REFUSED
    assert found["from outside"] in REFUSED
    assert found["by the shim"] == "127.0.0.1"
    # Forwarding is on for the way out alone, and off again at last; the rules stay while there are pods.
    assert found["forwarding"] == ["0", "1"]
    assert found["one table"] == 1
    for event in ("an early uninstall", "a flush"):
        assert found[f"internet after {event}"] == "192.0.2.2"
        assert found[f"host after {event}"] in REFUSED
    assert (found["links left"], found["rules left"], found["forwarding left"]) == (0, "", "0")


@pytest.mark.root
def test_an_exception_opens_its_network_to_its_own_installation_and_never_the_host(tmp_path: Path):
    found = world.tried("with_exceptions", tmp_path / "work")

    assert found["allowing"]["private machine"] == "10.77.0.1"
    assert found["allowing"]["host's private address"] in REFUSED
    assert found["the other installation's pod"] in REFUSED
    for what in NEVER:
        assert found["strict"][what] in REFUSED, what


@pytest.mark.user
def test_a_users_pod_reaches_the_internet_and_nothing_else(tmp_path: Path):
    found = world.tried("as_user", tmp_path / "work")

    assert found["internet"] == "192.0.2.2", found
    for what in NEVER:
        assert found[what] in REFUSED, what
    assert found["by the shim"] == "127.0.0.1"
    assert found["a pod that flushes the rules"] is True
    assert found["host after that"] in REFUSED
    assert found["closed quickly"]


@pytest.mark.root
def test_a_killed_shims_network_is_taken_away_by_a_sweep_or_by_the_next(tmp_path: Path):
    found = world.tried("crashed", tmp_path / "work")

    assert found["sweep: while it lives"] == found["next: while it lives"] == 0
    assert found["sweep: left by the dead"] == found["next: left by the dead"] == 1
    assert found["swept"] == [1, 0]
    assert found["next reaches the internet"] == "192.0.2.2"
    assert found["sweep: left at last"] == found["next: left at last"] == 0


@pytest.mark.user
def test_of_a_users_killed_shim_no_process_is_left(tmp_path: Path):
    found = world.tried("keeper_crashed", tmp_path / "work")

    assert found == {
        "shim: both run": True,
        "shim: left": False,
        "both: both run": True,
        "swept": 1,
        "both: left": False,
    }


@pytest.mark.user
def test_without_tun_there_is_no_internet_and_that_is_said(tmp_path: Path):
    found = world.tried("without_tun", tmp_path / "work")

    assert "/dev/net/tun" in found["message"]
    assert (found["names"], found["at once"]) == ([2, 0], True)
    assert found["internet"] != "192.0.2.2"
    assert found["host"] not in {"192.0.2.2", "10.77.0.1"}


@pytest.mark.root
def test_what_others_change_on_the_host_is_noticed(tmp_path: Path):
    found = world.tried("noticed_as_root", tmp_path / "work")

    assert found["container while only pods are forwarded for"] in REFUSED
    # Told by the kernel, not found at the next look around, after five; and as the server loaded them last.
    assert found["seconds until the rules are back"] < 4
    assert found["exception after that"] == "10.77.0.1"
    assert found["host after that"] in REFUSED
    # A host that begins to forward for others, such as containers, is not kept from it.
    assert found["container when the host forwards for it"] == "192.0.2.1"
    assert found["pod after that"] in REFUSED
    assert found["forwarding that others switched on"] == "1"


@pytest.mark.user
def test_a_new_address_of_the_host_is_refused_too(tmp_path: Path):
    found = world.tried("noticed_as_user", tmp_path / "work")

    assert found["before"] in REFUSED
    assert found["unnoticed"] == "198.51.100.200", "the trial proves nothing: nobody answers there"
    assert found["noticed"] in REFUSED
    assert found["internet"] == "192.0.2.2"
