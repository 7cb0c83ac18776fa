"""The rules for what a launch or an edit may say about limits of time, pure. Called by drafts."""

from collections.abc import Sequence
from dataclasses import dataclass

from neuropod.kit.errors import FieldError
from neuropod.pods.launch import UNSET, NotSent
from neuropod.settings import LimitSettings

LEAST_SECONDS, MOST_SECONDS = 60, 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """When a pod is stopped by itself: so long after its process began to run, so long idle; None: it is not."""

    stop_after_seconds: int | None = None
    idle_stop_after_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class AskedLimits:
    """What a request says of them."""

    stop_after_seconds: int | NotSent | None = UNSET
    idle_stop_after_seconds: int | NotSent | None = UNSET


def limits_of(
    asked: AskedLimits, default: TimeLimits, settings: LimitSettings, *, unbounded: bool
) -> tuple[TimeLimits, Sequence[FieldError]]:
    """Return the limits: those asked for, else the default; and what is wrong with them.

    `unbounded`: an administrator asks, whom the settings' greatest values do not bind.
    """
    stop, wrong_stop = _one(
        "stop_after_seconds",
        asked.stop_after_seconds,
        default.stop_after_seconds,
        None if unbounded else settings.max_stop_after_seconds,
    )
    idle, wrong_idle = _one(
        "idle_stop_after_seconds",
        asked.idle_stop_after_seconds,
        default.idle_stop_after_seconds,
        None if unbounded else settings.max_idle_stop_after_seconds,
    )
    return TimeLimits(stop, idle), (*wrong_stop, *wrong_idle)


def _one(
    field: str, asked: int | NotSent | None, default: int | None, most: int | None
) -> tuple[int | None, Sequence[FieldError]]:
    if asked is UNSET:
        return default, ()
    if asked is None:
        if most is None:
            return None, ()
        return None, (FieldError(field, "missing", f"{field} must be given here, at most {most} s"),)
    greatest = MOST_SECONDS if most is None else most
    if LEAST_SECONDS <= asked <= greatest:
        return asked, ()
    return None, (FieldError(field, "range", f"{field} is {LEAST_SECONDS} to {greatest} s"),)


def limits_at_launch(settings: LimitSettings, template: TimeLimits, *, unbounded: bool) -> TimeLimits:
    """Return what holds for a new pod that asks for nothing: what its template says, else the settings' default.

    For a client both are no more than may be asked for, which is also what holds where neither says anything.
    """
    stop = _first(template.stop_after_seconds, settings.default_stop_after_seconds)
    idle = _first(template.idle_stop_after_seconds, settings.default_idle_stop_after_seconds)
    if unbounded:
        return TimeLimits(stop, idle)
    return TimeLimits(
        _at_most(stop, settings.max_stop_after_seconds), _at_most(idle, settings.max_idle_stop_after_seconds)
    )


def _first(one: int | None, other: int | None) -> int | None:
    return other if one is None else one


def _at_most(limit: int | None, most: int | None) -> int | None:
    if limit is None or most is None:
        return _first(limit, most)
    return min(limit, most)
