"""The rules for what an administrator may write into the catalogue, field by field, pure. Called by service."""

import re
import warnings
from collections.abc import Collection, Mapping, Sequence

from neuropod.catalogue.devices import Finder
from neuropod.kit.errors import FieldError
from neuropod.kit.money import MICROS_PER_UNIT, Micros, price_of_text

CPU_CORES = (1, 1024)
MEMORY_GB = (1, 16_384)
GPUS = (0, 16)
POSITION = (0, 100_000)
MAX_TITLE = 80
MAX_PATTERN = 200
MAX_LABELS = 16
MAX_PREFIX = 253  # of a label's or resource's name, before its slash
MAX_PRICE = Micros(100_000 * MICROS_PER_UNIT)  # of an hour: more is a slip of the keyboard
NAME_RULE = "1 to 40 of a-z, 0-9, '.' and '-', a letter or a digit at both ends"
_QUALIFIED = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII
)
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", re.ASCII)
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


def wrong_finder(finder: Finder, gpus: int) -> Sequence[FieldError]:
    """Check how devices are found: a type with GPUs says it for machines or clusters, one without for neither.

    Labels of nodes may stand with a type without GPUs too: its pods then run on such nodes.
    """
    wrong = [*_wrong_pattern(finder.model_pattern), *_wrong_resource(finder.gpu_resource)]
    wrong += _wrong_selector(finder.node_selector)
    if not gpus:
        wrong += [
            FieldError(field, "not_empty", f"a type without GPUs finds no devices: leave {field} empty")
            for field, value in (("model_pattern", finder.model_pattern), ("gpu_resource", finder.gpu_resource))
            if value
        ]
    elif not finder.model_pattern and not finder.gpu_resource:
        rule = (
            "a type with GPUs needs the name that the driver gives its devices, such as 'NVIDIA H100.*', "
            "or with gpu_resource the one that a cluster does"
        )
        wrong.append(FieldError("model_pattern", "empty", rule))
    return wrong


def _wrong_resource(gpu_resource: str) -> Sequence[FieldError]:
    prefix, slash, _ = gpu_resource.partition("/")
    if not gpu_resource or (slash and _QUALIFIED.fullmatch(gpu_resource) and len(prefix) <= MAX_PREFIX):
        return ()
    rule = "gpu_resource is what the cluster's device plugin calls its GPUs, such as nvidia.com/gpu"
    return (FieldError("gpu_resource", "pattern", rule),)


def _wrong_selector(node_selector: Mapping[str, str]) -> Sequence[FieldError]:
    field = "node_selector"
    if len(node_selector) > MAX_LABELS:
        return (FieldError(field, "too_long", f"{field} has at most {MAX_LABELS} labels"),)
    return [
        FieldError(f"{field}.{name}", "pattern", f"{name!r}: {value!r} is no label of a node")
        for name, value in node_selector.items()
        if not _QUALIFIED.fullmatch(name)
        or len(name.rpartition("/")[0]) > MAX_PREFIX
        or not _LABEL_VALUE.fullmatch(value)
    ]


def wrong_runtimes(runtimes: Sequence[str], known: Collection[str]) -> Sequence[FieldError]:
    """Check on which runtimes a type is offered, by name; `known` are the names that there are."""
    unknown = [name for name in runtimes if name not in known]
    if unknown:
        there = ", ".join(sorted(known)) or "none"
        return (FieldError("runtimes", "unknown", f"no runtime is called {unknown[0]!r}; there are: {there}"),)
    if len(set(runtimes)) < len(runtimes):
        return (FieldError("runtimes", "twice", "runtimes names one of them twice"),)
    return ()


def _wrong_pattern(model_pattern: str) -> Sequence[FieldError]:
    field = "model_pattern"
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
