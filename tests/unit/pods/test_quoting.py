"""What a quote says of room: by the rule of Open, with who holds what it would wait for."""

import pytest

from neuropod.catalogue.devices import Finder
from neuropod.ids import IncarnationId, PodId, RuntimeId, UserId, VolumeId
from neuropod.pods.gpus.health import Held, troubles
from neuropod.pods.gpus.holders import holders_of
from neuropod.pods.quoting import fit_of
from neuropod.pods.room import Need, Taken
from neuropod.runtimes.contract import Capacity, Device
from neuropod.words import Reason

HERE = RuntimeId("fake:one")
MACHINE = Capacity(8, 100, 1000, (Device("a", "RTX 4090"), Device("b", "RTX 4070"), Device("c", "RTX 4090")))
NEED = Need(cpu_cores=1, memory_bytes=10, disk_bytes=10, gpus=1, finder=Finder("RTX 4090"))


def held(device: str, pod: str = "lab", trouble: str = "") -> Held:
    return Held(HERE, device, "rtx-4090", PodId(f"pod_{pod}"), pod, UserId("usr_1"), "ada@example.org",
                IncarnationId(f"inc_{pod}"), 1, trouble)  # fmt: skip


def fit(taken: Taken, need: Need = NEED, waiting: int = 0, *given: Held):
    return fit_of(need, MACHINE, taken, waiting=waiting, held=given, name="rtx-4090")


def test_what_has_room_starts_at_once():
    found = fit(Taken(devices=frozenset({"a"})))

    assert (found.now, found.reason, found.place, found.holders) == (True, None, None, ())


def test_who_comes_after_others_waits_though_one_is_free():
    found = fit(Taken(), NEED, 2)

    assert (found.now, found.reason, found.place) == (False, Reason.NO_GPU, 3)
    assert "behind 2" in found.message


def test_all_in_use_names_those_who_hold_that_model_and_no_other():
    given = held("a"), held("c", "big"), held("b", "other")

    found = fit(Taken(devices=frozenset({"a", "b", "c"})), NEED, 0, *given)

    assert (found.now, found.reason, found.place, found.ever) == (False, Reason.NO_GPU, 1, True)
    assert [(holder.pod_name, holder.gpus) for holder in found.holders] == [("big", 1), ("lab", 1)]
    assert found.message.startswith("No rtx-4090 is free (2 in use).")


@pytest.mark.parametrize(
    ("need", "reason", "ever"),
    [
        (Need(1, 10, 10, gpus=3, finder=Finder("RTX 4090")), Reason.NO_GPU, False),
        (Need(9, 10, 10), Reason.NO_CAPACITY, False),
        (Need(8, 10, 10), Reason.NO_CAPACITY, True),
    ],
)
def test_what_the_machine_does_not_have_at_all_is_said(need: Need, reason: Reason, ever: bool):
    found = fit(Taken(cpu_cores=1), need)

    assert (found.now, found.reason, found.ever) == (False, reason, ever)


TIED = VolumeId("vol_1")


@pytest.mark.parametrize(
    ("hosts", "taken", "reason", "ever", "says"),
    [
        ("near", (), None, True, "on the machine that its volume is tied to"),
        ("near bare", (), None, True, "on one of the machines that its volume is tied to"),
        ("near", ("a",), Reason.VOLUME_ELSEWHERE, True, "that one has no free rtx-4090. It would wait until one has"),
        (
            "near bare",
            ("a",),
            Reason.VOLUME_ELSEWHERE,
            True,
            "2 machines of the cluster alone now, and none of them has",
        ),
        ("bare", (), Reason.VOLUME_ELSEWHERE, False, "that one has no rtx-4090 at all"),
        ("", (), Reason.VOLUME_ELSEWHERE, False, "on no machine that the cluster has now"),
        ("near", ("a", "b"), Reason.NO_GPU, True, "No rtx-4090 is free"),
    ],
)
def test_a_volume_that_some_machines_have_ties_its_pods_to_them(hosts, taken, reason, ever, says):
    devices = (Device("a", "RTX 4090", host="near"), Device("b", "RTX 4090", host="far"))
    cluster = Capacity(8, 100, 1000, devices, volume_hosts={TIED: frozenset(hosts.split())})
    need = Need(1, 10, 10, gpus=1, finder=Finder("RTX 4090"), volume_id=TIED)
    taken = Taken(devices=frozenset(taken))

    found = fit_of(need, cluster, taken, waiting=0, held=[], name="rtx-4090")

    assert (found.now, found.reason, found.ever) == (reason is None, reason, ever)
    assert says in found.message


def test_holders_are_counted_by_pod():
    assert [(one.pod_name, one.gpus) for one in holders_of([held("a"), held("b", "z"), held("c")])] == [
        ("lab", 2), ("z", 1),
    ]  # fmt: skip


def test_troubles_are_what_is_otherwise_than_the_row_says():
    broken = Capacity(8, 100, 1000, (Device("a", "RTX 4090", trouble="it is lost"), Device("c", "RTX 4090")))
    lost = "its GPU a is lost to it: it is lost"

    assert {key: text for key, (_, text) in troubles([held("a"), held("c")], {HERE: broken}).items()} == {
        "inc_lab": lost
    }
    assert troubles([held("a", trouble=lost)], {HERE: broken}) == {}
    assert troubles([held("a", trouble=lost)], {HERE: MACHINE})["inc_lab"][1] == ""
    assert troubles([held("a")], {}) == {}
