"""Which workloads this runtime takes, and what their plan says."""

from dataclasses import replace

import pytest

from neuropod.ids import PodId, UserId, VolumeId
from neuropod.kit.secrets import Secret
from neuropod.runtimes.contract import Recipe, Resources, VolumeMount, WorkloadId, WorkloadRejectedError
from neuropod.runtimes.local.devices import Gpu
from neuropod.runtimes.local.plan import Plan
from neuropod.runtimes.local.planning import Ground, plan_of
from neuropod.settings import LimitSettings, LocalSettings
from neuropod.words import Reason
from runtimes.local.pods import a_workload

GPUS = {
    "GPU-1": Gpu("GPU-1", "RTX 4090", 2, bus_id="0000:01:00.0"),
    "GPU-2": Gpu("GPU-2", "x", 0, trouble="it is lost"),
}
GROUND = Ground("root", "/data", "https://index", None, None, {}, {}, {}, {}, GPUS, ("/opt/libcuda.so.1",))


def plan(workload) -> Plan:
    return plan_of(workload, GROUND, LocalSettings(), LimitSettings(), uid=200_001, gid=200_001)


def test_a_command_of_the_workload_replaces_the_recipes():
    workload = replace(a_workload("recipes"), command=("own", "words"))

    assert plan(workload).command == ("own", "words")
    assert plan(a_workload("recipes")).command == ("recipes",)


@pytest.mark.parametrize(
    ("recipe", "author"),
    [
        (Recipe((), ("x",), shared_cache=True, author=UserId("usr_2")), None),
        (Recipe((), ("x",), author=UserId("usr_2")), "usr_2"),
        (Recipe((), ("x",)), "usr_1"),
    ],
)
def test_only_what_an_administrator_wrote_shares_its_environment(recipe: Recipe, author: str | None):
    assert plan(replace(a_workload("x"), recipe=recipe)).cache_author == author


def test_an_allocated_gpu_becomes_its_device_node():
    workload = replace(a_workload("x"), resources=Resources(1, 1 << 28, 1 << 28, ("GPU-1",)))

    assert plan(workload).devices[0] == "/dev/nvidia2"
    assert plan(workload).gpus == ("GPU-1",)
    assert plan(workload).gpu_bus_ids == ("0000:01:00.0",)
    assert plan(workload).driver_files == ("/opt/libcuda.so.1",)
    assert plan(a_workload("x")).driver_files == ()


@pytest.mark.parametrize("name", ["GPU-2", "GPU-9"])
def test_a_gpu_that_is_gone_or_broken_ends_this_run_and_not_the_pod(name: str):
    workload = replace(a_workload("x"), resources=Resources(1, 1 << 28, 1 << 28, (name,)))

    with pytest.raises(WorkloadRejectedError) as caught:
        plan(workload)

    assert caught.value.reason is Reason.GPU_LOST


def refused() -> dict[str, object]:
    good = a_workload("x", volume="vol_1")
    mount = VolumeMount(VolumeId("vol_1"), "workspace", 1 << 28)
    return {
        "an image": replace(good, recipe=None),
        "no command": replace(good, recipe=Recipe((), ())),
        "a NUL in the command": replace(good, command=("a\0b",)),
        "a NUL in a variable": replace(good, env={"A": Secret("x\0B=y")}),
        "a variable without a name": replace(good, env={"": Secret("x")}),
        "an equals sign in a name": replace(good, env={"A=B": Secret("x")}),
        "a pod that leaves its folder": replace(good, id=WorkloadId(good.id.installation, PodId("../../etc"), 1)),
        "a volume that leaves its folder": replace(good, volume=replace(mount, id=VolumeId("../db"))),
        "a volume over the system": replace(good, volume=replace(mount, path="/usr")),
        "a volume that climbs": replace(good, volume=replace(mount, path="/workspace/../etc")),
        "a GPU that is not here": replace(good, resources=Resources(1, 1 << 28, 1 << 28, ("GPU-9",))),
    }


@pytest.mark.parametrize("name", refused())
def test_what_cannot_run_here_is_refused_with_a_sentence(name: str):
    with pytest.raises(WorkloadRejectedError, match=r"\w+ .*\.$"):
        plan(refused()[name])


def test_a_pod_never_gets_the_uid_of_root():
    with pytest.raises(WorkloadRejectedError):
        plan_of(a_workload("x"), GROUND, LocalSettings(), LimitSettings(), uid=0, gid=0)
