"""Money is integer micro-units (one millionth) of one currency; a float never touches it."""

import re
from decimal import Decimal
from typing import NewType

Micros = NewType("Micros", int)

MICROS_PER_UNIT = 1_000_000

_PRICE = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,6})?", re.ASCII)


def micros(amount: str | int | Decimal) -> Micros:
    """Return an exact amount in micro-units; more than six decimals are refused (ValueError)."""
    scaled = Decimal(amount) * MICROS_PER_UNIT
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{amount} has more than six decimals")
    return Micros(int(scaled))


def price_of_text(text: str) -> Micros:
    """Return the price that a person wrote as decimal text: digits, a point, at most six digits (ValueError else)."""
    if _PRICE.fullmatch(text) is None:
        raise ValueError("a price is written like 2.50: not negative, a point, at most six decimals")
    return micros(text)


def decimal_text(amount: Micros) -> str:
    """Return the amount for people and JSON: at least two decimals, no trailing zeros beyond them."""
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), MICROS_PER_UNIT)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"
