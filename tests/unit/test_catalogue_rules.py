"""What an administrator may write into the catalogue."""

import pytest

from neuropod.catalogue import rules
from neuropod.catalogue.devices import Finder
from neuropod.kit.money import price_of_text


@pytest.mark.parametrize("name", ["cpu", "rtx-4090", "h100.80gb", "4", "a" * 40])
def test_a_name_is_short_and_can_be_typed(name: str):
    assert rules.wrong_name(name) == ()


@pytest.mark.parametrize("name", ["", "RTX", "-a", "a-", "a b", "a" * 41, "a\0", "ü", "a\n"])
def test_other_names_are_refused(name: str):
    assert [wrong.field for wrong in rules.wrong_name(name)] == ["name"]


@pytest.mark.parametrize("pattern", ["NVIDIA H100.*", "(?:NVIDIA )?RTX 4090", "A100|H100"])
def test_a_type_with_gpus_has_an_expression(pattern: str):
    assert rules.wrong_finder(Finder(pattern), 1) == []


@pytest.mark.parametrize(
    ("pattern", "gpus", "code"),
    [
        ("", 1, "empty"), ("x", 0, "not_empty"), ("(", 1, "pattern"), ("[[a]", 1, "pattern"), ("a" * 201, 1, "too_long"),
        ("a{99999999999999999999}", 1, "pattern"), ("(" * 150 + ")" * 50, 1, "pattern"), ("a\0", 1, "pattern"),
        ("\ud800", 1, "pattern"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_whatever_it_does_to_the_compiler(pattern: str, gpus: int, code: str):
    assert [wrong.code for wrong in rules.wrong_finder(Finder(pattern), gpus)] == [code]


NVIDIA = "nvidia.com/gpu"


def test_a_type_that_only_clusters_have_needs_no_expression():
    assert rules.wrong_finder(Finder(gpu_resource=NVIDIA, node_selector={"gpu": "a100"}), 1) == []
    assert rules.wrong_finder(Finder(node_selector={"pool.example.org/kind": ""}), 0) == []


@pytest.mark.parametrize(
    ("finder", "gpus", "fields"),
    [
        (Finder(gpu_resource=NVIDIA), 0, {"gpu_resource"}),
        (Finder(gpu_resource="gpu"), 1, {"gpu_resource"}),  # without a domain it would be one of Kubernetes' own
        (Finder(gpu_resource="a/b/c"), 1, {"gpu_resource"}),
        (Finder(gpu_resource="NVIDIA.com/gpu"), 1, {"gpu_resource"}),
        (Finder(gpu_resource=f"{'a' * 254}/gpu"), 1, {"gpu_resource"}),
        (Finder(gpu_resource=f"nvidia.com/{'a' * 64}"), 1, {"gpu_resource"}),
        (Finder(gpu_resource="nvidia.com/gpu\n"), 1, {"gpu_resource"}),
        (Finder(gpu_resource=NVIDIA, node_selector={"a b": "x"}), 1, {"node_selector.a b"}),
        (Finder(gpu_resource=NVIDIA, node_selector={"a": "x y", "b": "ok"}), 1, {"node_selector.a"}),
        (Finder(gpu_resource=NVIDIA, node_selector={str(n): "" for n in range(17)}), 1, {"node_selector"}),
        (Finder("(", gpu_resource="gpu"), 1, {"model_pattern", "gpu_resource"}),
    ],
)
def test_names_that_no_cluster_takes_are_refused(finder: Finder, gpus: int, fields: set[str]):
    assert {wrong.field for wrong in rules.wrong_finder(finder, gpus)} == fields


def test_a_type_is_offered_on_runtimes_that_there_are():
    assert rules.wrong_runtimes(["lab", "local"], {"lab", "local", "far"}) == ()
    assert rules.wrong_runtimes([], set()) == ()
    (unknown,) = rules.wrong_runtimes(["lap"], {"lab", "local"})
    assert (unknown.code, unknown.message) == ("unknown", "no runtime is called 'lap'; there are: lab, local")
    assert [wrong.code for wrong in rules.wrong_runtimes(["lab", "lab"], {"lab"})] == ["twice"]


@pytest.mark.parametrize(("text", "micros"), [("0", 0), ("2.5", 2_500_000), ("0.000001", 1), ("10.00", 10_000_000)])
def test_a_price_is_read_exactly(text: str, micros: int):
    assert price_of_text(text) == micros


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1.0000001", "Infinity", "nan", "1,5", " 1", "\uff11", ".5", "1."])
def test_what_is_no_price_is_refused(text: str):
    with pytest.raises(ValueError, match=r"2\.50"):
        price_of_text(text)
