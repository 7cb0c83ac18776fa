"""Which devices a type of the catalogue means."""

import pytest

from neuropod.catalogue.devices import fits
from neuropod.catalogue.starters import starter_types

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
    assert {name for name, pattern in PATTERNS.items() if fits(pattern, model)} == expected


def test_a_pattern_that_is_no_pattern_fits_nothing():
    assert not fits("RTX (4090", "RTX (4090")
