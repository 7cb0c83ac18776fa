"""Which devices a type of the catalogue means."""

import pytest

from neuropod.catalogue.devices import Finder, fits
from neuropod.catalogue.starters import starter_types
from neuropod.runtimes.contract import Capability, Device

PATTERNS = {columns["name"]: columns["model_pattern"] for columns in starter_types()}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("NVIDIA GeForce RTX 4050 Laptop GPU", {"rtx-4050"}),
        ("NVIDIA GeForce RTX 4070", {"rtx-4070"}),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", {"rtx-4070"}),
        ("NVIDIA GeForce RTX 4070 SUPER", set()),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", set()),
        ("NVIDIA GeForce RTX 4090", {"rtx-4090"}),
        ("NVIDIA GeForce RTX 4090 D", {"rtx-4090"}),
        ("nvidia geforce rtx 4090 ", {"rtx-4090"}),
        ("NVIDIA A100-SXM4-40GB", set()),
        ("", set()),
    ],
)
def test_a_device_belongs_to_the_type_that_it_is_and_to_no_other(model, expected):
    assert {name for name, pattern in PATTERNS.items() if fits(Finder(pattern), Device("gpu-a", model))} == expected


def test_a_pattern_that_is_no_pattern_fits_nothing():
    assert not fits(Finder("RTX (4090"), Device("gpu-a", "RTX (4090"))


def on_a_node(resource: str = "nvidia.com/gpu", **labels: str) -> Device:
    return Device("node-1/0", "whatever", host="node-1", resource=resource, labels=labels)


def test_a_clusters_device_is_found_by_its_resource_and_the_labels_of_its_node():
    a100 = Finder("whatever", gpu_resource="nvidia.com/gpu", node_selector={"gpu": "a100"})

    assert fits(a100, on_a_node(gpu="a100", zone="b"))
    assert not fits(a100, on_a_node(gpu="t4"))
    assert not fits(a100, on_a_node())
    assert not fits(a100, on_a_node("amd.com/gpu", gpu="a100"))
    assert not fits(Finder("whatever"), on_a_node(gpu="a100"))


def test_a_starter_is_found_on_clusters_that_label_their_nodes_as_nvidia_does():
    columns = {columns["name"]: columns for columns in starter_types()}["rtx-4090"]
    finder = Finder(columns["model_pattern"], columns["gpu_resource"], columns["node_selector"])
    node = Device("n/0", "", resource="nvidia.com/gpu", labels={"nvidia.com/gpu.product": "NVIDIA-GeForce-RTX-4090"})

    assert fits(finder, node)
    assert not fits(finder, Device("n/0", "", resource="nvidia.com/gpu"))


def test_a_type_works_with_runtimes_that_find_their_devices_as_it_says():
    cluster, machine = frozenset({Capability.GPU_RESOURCES}), frozenset({Capability.IMAGES})

    assert [Finder("x").works_with(one) for one in (cluster, machine)] == [False, True]
    assert [Finder(gpu_resource="x.y/z").works_with(one) for one in (cluster, machine)] == [True, False]
