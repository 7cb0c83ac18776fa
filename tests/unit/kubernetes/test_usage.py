"""What a kubelet's summary says of Pods and volumes."""

import json

import msgspec

from neuropod.kit.clock import SystemClock
from neuropod.runtimes.kubernetes.shapes import ClaimShape
from neuropod.runtimes.kubernetes.usage import ClaimUse, read_summary
from neuropod.runtimes.kubernetes.volumes import use_of

MIB = 1 << 20
CLAIM = msgspec.convert(
    {
        "metadata": {"name": "workspace-a"},
        "spec": {"resources": {"requests": {"storage": "128Mi"}}},
        "status": {"capacity": {"storage": "64Mi"}},
    },
    ClaimShape,
)


def test_pods_are_told_by_their_containers_and_volumes_by_their_claims():
    summary = {
        "pods": [
            {
                "podRef": {"uid": "one"},
                "containers": [
                    {"cpu": {"usageCoreNanoSeconds": 1_500_000_000}, "memory": {"workingSetBytes": 7 * MIB}}
                ],
                "ephemeral-storage": {"usedBytes": 4096},
                "volume": [
                    {
                        "usedBytes": 5 * MIB,
                        "capacityBytes": 64 * MIB,
                        "availableBytes": 59 * MIB,
                        "pvcRef": {"name": "workspace-a", "namespace": "neuropod-a"},
                    }
                ],
            },
            {"podRef": {"uid": "just-started"}, "containers": [{"memory": {"workingSetBytes": 1}}]},
        ]
    }

    told = read_summary(json.dumps(summary))

    assert told.pods.keys() == {"one"}
    assert (told.pods["one"].cpu_seconds, told.pods["one"].memory_bytes) == (1.5, 7 * MIB)
    assert told.pods["one"].container_disk_bytes == 4096
    assert told.claims == {("neuropod-a", "workspace-a"): ClaimUse(5 * MIB, 64 * MIB, 59 * MIB)}


def test_what_is_no_summary_tells_nothing():
    assert read_summary("<html>").pods == {}


def test_a_volume_with_a_file_system_of_its_own_is_measured():
    use = use_of(CLAIM, ClaimUse(63 * MIB, 64 * MIB, MIB // 2), SystemClock())

    assert (use.size_bytes, use.used_bytes, use.full, use.grows_later) == (64 * MIB, 63 * MIB, True, True)


def test_a_folder_of_a_shared_disk_is_not_measured_as_if_the_disk_were_its():
    use = use_of(CLAIM, ClaimUse(38 << 30, 100 << 30, 62 << 30), SystemClock())

    assert (use.used_bytes, use.full) == (0, False)
    assert use_of(CLAIM, ClaimUse(100 << 30, 100 << 30, 0), SystemClock()).full
