"""The rules for what an administrator may write into the catalogue, field by field, pure. Called by service."""

import re
import warnings
from collections.abc import Sequence

from neuropod.kit.errors import FieldError
from neuropod.kit.money import MICROS_PER_UNIT, Micros, price_of_text

CPU_CORES = (1, 1024)
MEMORY_GB = (1, 16_384)
GPUS = (0, 16)
POSITION = (0, 100_000)
MAX_TITLE = 80
MAX_PATTERN = 200
MAX_PRICE = Micros(100_000 * MICROS_PER_UNIT)  # of an hour: more is a slip of the keyboard
NAME_RULE = "1 to 40 of a-z, 0-9, '.' and '-', a letter or a digit at both ends"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,38}[a-z0-9])?", re.ASCII)


def wrong_name(name: str) -> Sequence[FieldError]:
    """Check a type's name, which people type."""
    return () if _NAME.fullmatch(name) else (FieldError("name", "pattern", f"a type's name is {NAME_RULE}"),)


def wrong_title(title: str) -> Sequence[FieldError]:
    """Check what stands beside the name in lists."""
    if 0 < len(title) <= MAX_TITLE and title.isprintable() and title.strip() == title:
        return ()
    rule = f"a title has 1 to {MAX_TITLE} printable characters, no blanks at its ends"
    return (FieldError("title", "pattern", rule),)


def wrong_range(field: str, value: int, limits: tuple[int, int]) -> Sequence[FieldError]:
    """Check a number."""
    least, most = limits
    return () if least <= value <= most else (FieldError(field, "range", f"{field} is {least} to {most}"),)


def wrong_pattern(model_pattern: str, gpus: int) -> Sequence[FieldError]:
    """Check the expression for a device's name: a type with GPUs has one, one without has none."""
    field = "model_pattern"
    if not gpus:
        rule = "a type without GPUs finds no devices: leave model_pattern empty"
        return (FieldError(field, "not_empty", rule),) if model_pattern else ()
    if not model_pattern:
        rule = "a type with GPUs needs the name that the driver gives its devices, such as 'NVIDIA H100.*'"
        return (FieldError(field, "empty", rule),)
    if len(model_pattern) > MAX_PATTERN:
        return (FieldError(field, "too_long", f"model_pattern has at most {MAX_PATTERN} characters"),)
    if not model_pattern.isprintable():
        return (FieldError(field, "pattern", "model_pattern holds printable characters alone"),)
    try:
        with warnings.catch_warnings(action="error"):
            re.compile(model_pattern)
    except (re.error, Warning, OverflowError, RecursionError) as error:
        return (FieldError(field, "pattern", f"model_pattern is no plain regular expression: {error}"),)
    return ()


def price(per_hour: str | None, per_hour_micros: int | None) -> tuple[Micros | None, Sequence[FieldError]]:
    """Return the price that was asked for, as text or in micros (None: neither), and what is wrong with it."""
    if per_hour is not None and per_hour_micros is not None:
        rule = "give the price as per_hour or as per_hour_micros, not both"
        return None, (FieldError("price", "one_of", rule),)
    if per_hour is not None:
        try:
            amount = price_of_text(per_hour)
        except ValueError as error:
            return None, (FieldError("price.per_hour", "pattern", str(error)),)
        field = "price.per_hour"
    elif per_hour_micros is not None:
        amount, field = Micros(per_hour_micros), "price.per_hour_micros"
    else:
        return None, ()
    if not 0 <= amount <= MAX_PRICE:
        most = MAX_PRICE // MICROS_PER_UNIT
        return None, (FieldError(field, "range", f"a price per hour is 0 to {most}"),)
    return amount, ()
