"""The settings that a command of the machine works with, read once, with errors that name what to change."""

import logging
import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.observability.logs import configure
from neuropod.settings import Settings

_PREFIX = "NEUROPOD_"
_OTHERS = {"API_KEY", "CONFIG", "PROFILE", "PROGRAM", "URL"}  # of the commands and the launcher
_OF_TESTS = "TEST_"


def read_settings() -> Settings:
    """Return the settings and let the logs follow them. Raises CommandError that names all wrong ones at once."""
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = [f"{_variable(one['loc'])}: {_sentence(str(one['msg']))}" for one in error.errors(include_input=False)]
        hint = "they come from the environment or from neuropod.toml; src/neuropod/settings/ documents each"
        raise CommandError(
            "these settings cannot be used\n" + "\n".join(f"  {line}" for line in wrong),
            exit_code=Exit.USAGE,
            hints=(hint,),
        ) from None
    except tomllib.TOMLDecodeError as error:
        name = os.environ.get("NEUROPOD_CONFIG", "neuropod.toml")
        raise CommandError(f"{name} is not TOML: {error}", exit_code=Exit.USAGE) from None
    configure(settings.log_format, settings.log_level)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every look at the schema
    return settings


def passed_over(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a sentence for each variable that looks like a setting and is none: a slip of the pen is not silent.

    Within a group a wrong name is refused by `read_settings` already.
    """
    names = [_PREFIX + name for name in _names(Settings)]
    sentences = []
    for variable in sorted(name for name in environ if name.startswith(_PREFIX)):
        name = variable.removeprefix(_PREFIX)
        first = name.partition("__")[0]
        if first in _OTHERS or first.startswith(_OF_TESTS) or first.lower() in Settings.model_fields:
            continue
        near = [one for one in names if one.endswith("__" + name)] or get_close_matches(variable, names, 1, 0.8)
        advice = f"; is {near[0]} meant?" if near else ""
        sentences.append(f"{variable} is no setting and counts for nothing{advice}")
    return sentences


def _names(group: type[BaseModel]) -> Iterator[str]:
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name.upper()}__{inner}" for inner in _names(field.annotation))
        else:
            yield name.upper()


def _variable(place: tuple[int | str, ...]) -> str:
    """Return the environment variable's name; in the file the same words stand below their groups.

    Of a list (clusters) which one it is, and what of it.
    """
    if len(place) > 1 and isinstance(place[1], int):
        of_it = ".".join(str(part) for part in place[2:])
        return f"[[{place[0]}]] number {place[1] + 1}{of_it and f', {of_it}'}"
    return "NEUROPOD_" + "__".join(str(part).upper() for part in place) if place else "settings"


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "must")
