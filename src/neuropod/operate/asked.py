"""The settings that a command of the machine works with, read once, with errors that name what to change."""

import logging
import os
import tomllib

from pydantic import ValidationError

from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.observability.logs import configure
from neuropod.settings import Settings


def read_settings() -> Settings:
    """Return the settings and let the logs follow them. Raises CommandError that names all wrong ones at once."""
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = [f"{_variable(one['loc'])}: {_sentence(str(one['msg']))}" for one in error.errors(include_input=False)]
        hint = "they come from the environment or from neuropod.toml; src/neuropod/settings.py documents each"
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


def _variable(place: tuple[int | str, ...]) -> str:
    """Return the environment variable's name; in the file the same words stand below their groups."""
    return "NEUROPOD_" + "__".join(str(part).upper() for part in place) if place else "settings"


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "must")
