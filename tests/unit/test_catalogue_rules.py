"""What an administrator may write into the catalogue."""

import pytest

from neuropod.catalogue import rules
from neuropod.kit.money import price_of_text


@pytest.mark.parametrize("name", ["cpu", "rtx-4090", "h100.80gb", "4", "a" * 40])
def test_a_name_is_short_and_can_be_typed(name: str):
    assert rules.wrong_name(name) == ()


@pytest.mark.parametrize("name", ["", "RTX", "-a", "a-", "a b", "a" * 41, "a\0", "ü", "a\n"])
def test_other_names_are_refused(name: str):
    assert [wrong.field for wrong in rules.wrong_name(name)] == ["name"]


@pytest.mark.parametrize("pattern", ["NVIDIA H100.*", "(?:NVIDIA )?RTX 4090", "A100|H100"])
def test_a_type_with_gpus_has_an_expression(pattern: str):
    assert rules.wrong_pattern(pattern, 1) == ()


@pytest.mark.parametrize(
    ("pattern", "gpus", "code"),
    [
        ("", 1, "empty"), ("x", 0, "not_empty"), ("(", 1, "pattern"), ("[[a]", 1, "pattern"), ("a" * 201, 1, "too_long"),
        ("a{99999999999999999999}", 1, "pattern"), ("(" * 150 + ")" * 50, 1, "pattern"), ("a\0", 1, "pattern"),
        ("\ud800", 1, "pattern"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_whatever_it_does_to_the_compiler(pattern: str, gpus: int, code: str):
    assert [wrong.code for wrong in rules.wrong_pattern(pattern, gpus)] == [code]


@pytest.mark.parametrize(("text", "micros"), [("0", 0), ("2.5", 2_500_000), ("0.000001", 1), ("10.00", 10_000_000)])
def test_a_price_is_read_exactly(text: str, micros: int):
    assert price_of_text(text) == micros


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1.0000001", "Infinity", "nan", "1,5", " 1", "\uff11", ".5", "1."])
def test_what_is_no_price_is_refused(text: str):
    with pytest.raises(ValueError, match=r"2\.50"):
        price_of_text(text)
