"""What fits on a runtime: nothing is promised twice, and each device goes to one pod."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from neuropod.catalogue.devices import Finder
from neuropod.ids import VolumeId
from neuropod.pods.room import Need, Taken, emptied, free_devices, need_of, shortage, with_opened
from neuropod.runtimes.contract import Amounts, Capacity, Device, HostRoom
from neuropod.words import Reason

GPUS = (Device("gpu-a", "NVIDIA RTX 4090"), Device("gpu-b", "RTX 4070"), Device("gpu-c", "rtx 4090"))
MACHINE = Capacity(cpu_cores=8, memory_bytes=100, disk_bytes=1000, devices=GPUS)
SMALL = Need(cpu_cores=2, memory_bytes=10, disk_bytes=100)
GPU = Need(cpu_cores=1, memory_bytes=1, disk_bytes=1, gpus=1, finder=Finder("(?:NVIDIA )?RTX 4090"))


def test_what_fits_exactly_fits():
    assert shortage(SMALL, MACHINE, Taken(cpu_cores=6, memory_bytes=90, disk_bytes=900)) is None


def test_each_amount_is_looked_at():
    assert shortage(SMALL, MACHINE, Taken(cpu_cores=7)) is Reason.NO_CAPACITY
    assert shortage(SMALL, MACHINE, Taken(memory_bytes=91)) is Reason.NO_CAPACITY
    assert shortage(SMALL, MACHINE, Taken(disk_bytes=901)) is Reason.NO_CAPACITY


def test_devices_of_the_type_that_are_free_can_be_had():
    assert free_devices(GPU, MACHINE, Taken()) == ["gpu-a"]
    assert free_devices(replace(GPU, gpus=2), MACHINE, Taken()) == ["gpu-a", "gpu-c"]
    assert free_devices(GPU, MACHINE, Taken(devices=frozenset({"gpu-a"}))) == ["gpu-c"]


def test_without_enough_devices_it_is_the_gpu_that_is_missing():
    taken = Taken(cpu_cores=8, devices=frozenset({"gpu-a", "gpu-c"}))

    assert shortage(GPU, MACHINE, taken) is Reason.NO_GPU


def test_a_type_that_the_catalogue_no_longer_has_fits_no_device():
    need = need_of(cpu_cores=1, memory_gb=1, container_disk_gb=1, gpus=1, finder=None, volume_id=None)

    assert free_devices(need, MACHINE, Taken()) == ()


CLUSTER = Capacity(
    8, 100, 1000,
    tuple(Device(f"{host}/{number}", "RTX 4090", host=host) for host, count in (("big", 4), ("small", 2))
          for number in range(count)),
    volume_hosts={
        VolumeId("vol_tied"): frozenset({"big"}),
        VolumeId("vol_bare"): frozenset({"without"}),
        VolumeId("vol_zone"): frozenset({"big", "without"}),
        VolumeId("vol_nowhere"): frozenset(),
    },
)  # fmt: skip


def test_devices_of_one_pod_are_in_one_machine():
    three = replace(GPU, gpus=3)

    assert free_devices(three, CLUSTER, Taken()) == ["big/0", "big/1", "big/2"]
    assert shortage(three, CLUSTER, Taken(devices=frozenset({"big/0", "big/1"}))) is Reason.NO_GPU  # 2 and 2


def test_a_small_pod_goes_where_fewest_are_free_so_that_large_ones_find_room():
    assert free_devices(GPU, CLUSTER, Taken()) == ["small/0"]
    assert free_devices(GPU, CLUSTER, Taken(devices=frozenset({"small/0", "small/1"}))) == ["big/0"]


def test_a_pod_goes_where_its_volume_is_tied_to():
    tied = replace(GPU, volume_id=VolumeId("vol_tied"))
    bare = replace(GPU, volume_id=VolumeId("vol_bare"))
    big = frozenset(f"big/{number}" for number in range(4))

    assert free_devices(tied, CLUSTER, Taken()) == ["big/0"]
    assert shortage(tied, CLUSTER, Taken(devices=big)) is Reason.VOLUME_ELSEWHERE
    assert shortage(bare, CLUSTER, Taken()) is Reason.VOLUME_ELSEWHERE
    assert shortage(tied, CLUSTER, Taken(devices=big | {"small/0", "small/1"})) is Reason.NO_GPU
    assert shortage(replace(GPU, volume_id=VolumeId("vol_free")), CLUSTER, Taken()) is None


def test_a_pod_goes_to_one_of_the_machines_where_its_volume_can_be_used():
    zone = replace(GPU, volume_id=VolumeId("vol_zone"))
    big = frozenset(f"big/{number}" for number in range(4))

    assert free_devices(GPU, CLUSTER, Taken()) == ["small/0"]
    assert free_devices(zone, CLUSTER, Taken()) == ["big/0"]
    assert shortage(zone, CLUSTER, Taken(devices=big)) is Reason.VOLUME_ELSEWHERE
    assert shortage(replace(GPU, volume_id=VolumeId("vol_nowhere")), CLUSTER, Taken()) is Reason.VOLUME_ELSEWHERE


TWO = Capacity(
    8, 100, 1000, (Device("small/0", "RTX 4090", host="small"),), volumes_apart=True,
    volume_hosts={VolumeId("vol_tied"): frozenset({"small"})},
    hosts={
        "big": HostRoom(Amounts(5, 60, 600), Amounts(4, 60, 600)),
        "small": HostRoom(Amounts(3, 40, 400), Amounts(1, 40, 400)),
    },
)  # fmt: skip


def test_a_pod_fits_where_one_machine_has_all_of_it_not_where_all_together_have():
    assert shortage(replace(SMALL, cpu_cores=4), TWO, Taken()) is None
    assert shortage(replace(SMALL, cpu_cores=5), TWO, Taken()) is Reason.NO_CAPACITY
    assert shortage(replace(SMALL, cpu_cores=5), emptied(TWO), Taken()) is None
    assert shortage(replace(SMALL, memory_bytes=61), emptied(TWO), Taken()) is Reason.NO_CAPACITY
    assert shortage(replace(SMALL, disk_bytes=601), emptied(TWO), Taken()) is Reason.NO_CAPACITY


def test_a_free_device_is_of_no_use_where_its_machine_has_no_room():
    assert free_devices(GPU, TWO, Taken()) == ["small/0"]
    assert free_devices(replace(GPU, cpu_cores=2), TWO, Taken()) == ()
    assert shortage(replace(GPU, cpu_cores=2), TWO, Taken()) is Reason.NO_CAPACITY
    assert shortage(replace(GPU, cpu_cores=2), TWO, Taken(devices=frozenset({"small/0"}))) is Reason.NO_GPU


def test_a_pod_without_a_gpu_waits_for_its_volumes_machine_too():
    tied = replace(SMALL, volume_id=VolumeId("vol_tied"))

    assert shortage(replace(tied, cpu_cores=1), TWO, Taken()) is None
    assert shortage(tied, TWO, Taken()) is Reason.VOLUME_ELSEWHERE
    assert shortage(tied, emptied(TWO), Taken()) is None
    assert shortage(replace(tied, cpu_cores=4), emptied(TWO), Taken()) is Reason.VOLUME_ELSEWHERE
    assert shortage(tied, TWO, Taken(cpu_cores=7)) is Reason.NO_CAPACITY  # there is none anywhere


def test_what_is_opened_together_counts_what_the_earlier_ones_take_of_a_machine():
    left, opened_there = TWO, []
    for _ in range(3):
        fits = shortage(SMALL, left, Taken()) is None
        opened_there.append(fits)
        left = with_opened(left, SMALL, ()) if fits else left

    assert shortage(SMALL, TWO, Taken()) is None
    assert opened_there == [True, True, False]  # 4 of 5 and 1 of 3 cores are free
    assert [there.whole for there in left.hosts.values()] == [there.whole for there in TWO.hosts.values()]


def test_what_is_opened_counts_where_its_devices_or_its_volume_are():
    with_gpu = with_opened(TWO, GPU, ("small/0",)).hosts
    tied = with_opened(TWO, replace(SMALL, cpu_cores=1, volume_id=VolumeId("vol_tied")), ()).hosts

    assert (with_gpu["small"].free.cpu_cores, with_gpu["big"]) == (0, TWO.hosts["big"])
    assert (tied["small"].free.cpu_cores, tied["big"]) == (0, TWO.hosts["big"])
    assert with_opened(MACHINE, SMALL, ()) is MACHINE


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 60)), max_size=20))
def test_however_many_are_opened_together_no_machine_is_promised_more_than_it_has(sizes: list[tuple[int, int]]):
    left, cores, memory = TWO, 0, 0
    for cpu_cores, memory_bytes in sizes:
        need = Need(cpu_cores=cpu_cores, memory_bytes=memory_bytes, disk_bytes=1)
        if shortage(need, left, Taken()) is None:
            left, cores, memory = with_opened(left, need, ()), cores + cpu_cores, memory + memory_bytes

    free = [there.free for there in TWO.hosts.values()]
    still = [there.free for there in left.hosts.values()]
    assert sum(one.cpu_cores for one in free) - cores == sum(one.cpu_cores for one in still)
    assert sum(one.memory_bytes for one in free) - memory == sum(one.memory_bytes for one in still)


def test_volumes_take_of_the_machines_disk_unless_they_are_kept_apart():
    taken = Taken(disk_bytes=500, volume_bytes=450)

    assert shortage(SMALL, MACHINE, taken) is Reason.NO_CAPACITY
    assert shortage(SMALL, replace(MACHINE, volumes_apart=True), taken) is None


@given(st.lists(st.integers(1, 4), max_size=30))
def test_however_pods_come_the_sum_never_exceeds_the_machine(sizes: list[int]):
    taken = Taken()
    for size in sizes:
        need = Need(cpu_cores=size, memory_bytes=size, disk_bytes=size)
        if shortage(need, MACHINE, taken) is None:
            taken = Taken(taken.cpu_cores + size, taken.memory_bytes + size, taken.disk_bytes + size)

    assert taken.cpu_cores <= MACHINE.cpu_cores
