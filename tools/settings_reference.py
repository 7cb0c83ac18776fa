"""Writes docs/reference/settings.md from the settings' own docstrings: `make reference`. A test compares them."""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from neuropod.settings import Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "settings.md"

_HEAD = """\
# Settings

<!-- Made by tools/settings_reference.py; a test fails when it is not up to date. -->

Each value comes from, first wins: the environment; the file `neuropod.toml` in the working directory, or the one that
`NEUROPOD_CONFIG` names; the default. In the file a group is a table, and names are those of the page:

    port = 9000

    [limits]
    pods_per_user = 5

In the environment that is `NEUROPOD_PORT=9000` and `NEUROPOD_LIMITS__PODS_PER_USER=5`; lists are JSON there:
`NEUROPOD_TRUSTED_PROXIES='["10.0.0.1/32"]'`. A name in the file that is no setting, or a value that breaks its rule,
stops the start and is named. Settings are read once: a change holds after the next `neuropod up`; pods
run on meanwhile.
"""

_WORDS = {str: "text", bool: "true or false", int: "whole number", float: "number", Path: "path", SecretStr: "secret"}


def page() -> str:
    """Return the page."""
    parts = [_HEAD, "## General\n", *_entries(Settings)]
    for name, group in _groups(Settings):
        parts += [f"## {name}\n", f"{_paragraph(group.__doc__ or '')}\n", *_entries(group, name)]
    for name, each in _lists(Settings):
        parts += [f"## [[{name}]]\n", f"{_paragraph(each.__doc__ or '')}\n", *_entries(each, name, of_list=True)]
    return "\n".join(parts)


def _groups(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if _is_group(field):
            yield name, field.annotation  # type: ignore[misc]


def _lists(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        for each in get_args(field.annotation):
            if isinstance(each, type) and issubclass(each, BaseModel):
                yield name, each


def _is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _entries(model: type[BaseModel], group: str = "", *, of_list: bool = False) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not _is_group(field):
            path = f"{group}.{name}" if group else name
            variable = f"NEUROPOD_{group}__{name}" if group else f"NEUROPOD_{name}"
            rules = "".join(f", {rule}" for rule in _rules(field))
            told = "" if of_list else f"`{variable.upper()}` · "
            yield f"### {path}\n\n{told}{_kind(field.annotation)}{rules}\n"
            yield f"{_paragraph(field.description or '')}\n"


def _kind(annotation: Any) -> str:
    """Say in words what values a setting takes."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(annotation))
    if get_origin(annotation) in {tuple, list}:
        return f"list of {_kind(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        key, value = get_args(annotation)
        return f"table of {_kind(key)} to {_kind(value)}"
    if isinstance(annotation, UnionType):
        return " or ".join(_kind(one) for one in get_args(annotation) if one is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "tables, see below"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


_SIGNS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _rules(field: FieldInfo) -> Iterator[str]:
    for rule in field.metadata:
        for sign, word in _SIGNS.items():
            if (bound := getattr(rule, sign, None)) is not None:
                yield f"{word} {bound}"


def _paragraph(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(page())
