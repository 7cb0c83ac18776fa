"""Small pure pieces that every builder of objects uses: quantities, owner references, label selectors, comparisons.

Called by the builders of the runtime and the carriers. What objects there are, and their names, is theirs.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]
Objects: TypeAlias = list[Object]

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE])|[eE]([+-]?\d{1,3}))?")
_FACTORS: Mapping[str, Fraction] = MappingProxyType(
    {
        "n": Fraction(1, 10**9),
        "u": Fraction(1, 10**6),
        "m": Fraction(1, 1000),
        "k": Fraction(1000),
        **{letter: Fraction(1000 ** (power + 2)) for power, letter in enumerate("MGTPE")},
        **{f"{letter}i": Fraction(1024 ** (power + 1)) for power, letter in enumerate("KMGTPE")},
    }
)
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


@lru_cache(maxsize=1024)  # all Pods of a size ask for the same
def parse_quantity(text: str | float) -> Fraction:
    """Return the number that a quantity (`500m`, `1.5Gi`, `1e3`) stands for. ValueError: it is none."""
    if isinstance(text, int | float):
        return Fraction(Decimal(str(text)))
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    number, suffix, exponent = match.groups()
    value = Fraction(Decimal(number))
    if suffix:
        return value * _FACTORS[suffix]
    return value * Fraction(10) ** int(exponent) if exponent else value


def count_of(text: str | float) -> int:
    """Return a quantity as a whole number, rounded down (whole cores, bytes, GPUs that can be promised)."""
    return parse_quantity(text).__floor__()


def milli_of(text: str | float) -> int:
    """Return a quantity in thousandths, rounded down (millicores)."""
    return (parse_quantity(text) * 1000).__floor__()


def bytes_quantity(count: int) -> str:
    """Return bytes as a quantity, in the largest binary unit that is exact (`2Gi`), as the server writes them."""
    for power, letter in reversed(list(enumerate("KMGTPE", start=1))):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{letter}i"
    return str(count)


def cpu_quantity(milli: int) -> str:
    """Return millicores as a quantity (`2`, `500m`), as the server writes them."""
    return str(milli // 1000) if milli % 1000 == 0 else f"{milli}m"


def is_label_value(text: str) -> bool:
    """Whether a text may be the value of a label."""
    return _LABEL_VALUE.fullmatch(text) is not None


def selector(labels: Mapping[str, str | None]) -> str:
    """Return the label selector for all of these: a value, or None for "has the label"."""
    return ",".join(key if value is None else f"{key}={value}" for key, value in sorted(labels.items()))


def owner_reference(owner: Mapping[str, Any], *, controller: bool = False, block_deletion: bool = False) -> Object:
    """Return the reference by which an object is removed with `owner`, which the server has (it needs a UID)."""
    reference: Object = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
    if controller:
        reference["controller"] = True
    if block_deletion:
        reference["blockOwnerDeletion"] = True
    return reference


def contains(actual: Any, wanted: Any) -> bool:
    """Whether all that is wanted is in the object as the server has it; what it has besides (defaults) counts not.

    Mappings are looked into by key; lists must have the same length and hold what is wanted, in order. Server-side
    apply would change nothing, as far as that can be told from here.
    """
    if isinstance(wanted, Mapping):
        return isinstance(actual, Mapping) and all(
            key in actual and contains(actual[key], wanted[key]) for key in wanted
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(actual, list | tuple)
            and len(actual) == len(wanted)
            and all(contains(have, want) for have, want in zip(actual, wanted, strict=True))
        )
    return bool(actual == wanted)
