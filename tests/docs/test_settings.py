"""Every setting is documented where it stands."""

from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from neuropod.settings import Settings


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _leaves(field.annotation, f"{prefix}{name}.")
            continue
        yield prefix + name, field.description
        for each in get_args(field.annotation):
            if isinstance(each, type) and issubclass(each, BaseModel):
                yield from _leaves(each, f"{prefix}{name}[].")


@pytest.mark.parametrize(("name", "description"), list(_leaves(Settings)))
def test_a_setting_says_what_it_means_and_its_default(name, description):
    assert description, f"{name} needs a docstring under its field: meaning, unit, default, why"
    assert "Default" in description, f"{name} does not say its default"
