"""Whether a pod is idle, since when, what keeps it, and when its limits stop it: facts in, values out, pure.

Called by reconcile.limits after each look, and by `showing` for what the API says. Idle time counts only while
somebody looks: what passes unobserved (the server was down, the runtime gave no answer) moves the beginning on, so that
nobody's work is stopped because nobody watched it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from neuropod.pods.limits.bounds import TimeLimits
from neuropod.pods.status import Shown
from neuropod.settings import LimitSettings
from neuropod.words import Activity, Reason, Status

_GAP_LOOKS = 2.5  # more time than so many looks take has passed between two: nobody watched


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts as activity, from the settings."""

    look_seconds: float
    cpu_percent: float  # of one core
    gpu_percent: int
    warning_seconds: float


def thresholds_of(settings: LimitSettings, *, look_seconds: float) -> Thresholds:
    """Take them from the settings."""
    return Thresholds(look_seconds, settings.idle_cpu_percent, settings.idle_gpu_percent, settings.stop_warning_seconds)


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found of a pod that is ready."""

    at: datetime
    cpu_cores: float  # on average since the look before
    gpu_percent: int | None = None
    used: bool = False  # through a gateway, since the look before
    kernels_at: datetime | None = None  # when one of Jupyter's kernels or terminals worked last


@dataclass(frozen=True, slots=True)
class Idleness:
    """What is known after a look. While something keeps the pod, `since` is the look itself."""

    looked_at: datetime
    since: datetime
    kept_by: tuple[Activity, ...] = ()


def looked(before: Idleness | None, found: Found, thresholds: Thresholds) -> Idleness:
    """Return what is known after one more look; `before` is None for a run that was not looked at yet."""
    kept_by = tuple(_activities(before, found, thresholds))
    if kept_by or before is None:
        return Idleness(found.at, found.at, kept_by)
    unseen = found.at - before.looked_at
    if unseen.total_seconds() > _GAP_LOOKS * thresholds.look_seconds:
        return Idleness(found.at, before.since + unseen)
    return Idleness(found.at, before.since)


def _activities(before: Idleness | None, found: Found, thresholds: Thresholds) -> Sequence[Activity]:
    since = before.looked_at if before is not None else found.at
    activities = []
    if found.used:
        activities.append(Activity.CONNECTIONS)
    if found.kernels_at is not None and found.kernels_at > since:
        activities.append(Activity.KERNELS)
    if found.cpu_cores * 100 > thresholds.cpu_percent:
        activities.append(Activity.CPU)
    if found.gpu_percent is not None and found.gpu_percent > thresholds.gpu_percent:
        activities.append(Activity.GPU)
    return activities


@dataclass(frozen=True, slots=True)
class IdleView:
    """What the API says of idleness. `since` and `stops_at` are None while something keeps it, and before any look."""

    since: datetime | None = None
    stops_at: datetime | None = None
    kept_by: tuple[Activity, ...] = ()


@dataclass(frozen=True, slots=True)
class Outlook:
    """When the limits stop the present run."""

    stops_at: datetime | None = None  # its deadline
    idle: IdleView | None = None  # None: no such limit


UNLIMITED = Outlook()


def outlook_of(limits: TimeLimits, started_at: datetime | None, idleness: Idleness | None) -> Outlook:
    """Return when a run that began then, and is known so, is stopped."""
    deadline = None
    if limits.stop_after_seconds is not None and started_at is not None:
        deadline = started_at + timedelta(seconds=limits.stop_after_seconds)
    if limits.idle_stop_after_seconds is None:
        return Outlook(deadline)
    if idleness is None or idleness.kept_by:
        return Outlook(deadline, IdleView(kept_by=() if idleness is None else idleness.kept_by))
    stops_at = idleness.since + timedelta(seconds=limits.idle_stop_after_seconds)
    return Outlook(deadline, IdleView(idleness.since, stops_at))


@dataclass(frozen=True, slots=True)
class Stop:
    """A stop that comes, or is due; `at` names it, so that it is warned of once."""

    reason: Reason  # DEADLINE or IDLE
    at: datetime
    warned_from: datetime


def coming_stops(limits: TimeLimits, outlook: Outlook, thresholds: Thresholds) -> Sequence[Stop]:
    """Return what the outlook holds, the earliest first."""
    stops = []
    if outlook.stops_at is not None and limits.stop_after_seconds is not None:
        stops.append(_stop(Reason.DEADLINE, outlook.stops_at, limits.stop_after_seconds, thresholds))
    idle = outlook.idle
    if idle is not None and idle.stops_at is not None and limits.idle_stop_after_seconds is not None:
        stops.append(_stop(Reason.IDLE, idle.stops_at, limits.idle_stop_after_seconds, thresholds))
    return sorted(stops, key=lambda stop: stop.at)


def _stop(reason: Reason, at: datetime, limit_seconds: int, thresholds: Thresholds) -> Stop:
    seconds = min(thresholds.warning_seconds, limit_seconds / 2)
    return Stop(reason, at, at - timedelta(seconds=seconds))


def with_warning(shown: Shown, stops: Sequence[Stop], now: datetime) -> Shown:
    """Return what a pod is shown as, with the warning of the next stop while that is near."""
    if shown.status is Status.RUNNING and stops and stops[0].warned_from <= now:
        return replace(shown, message=f"{shown.message} {warning(stops[0], now)}")
    return shown


def warning(stop: Stop, now: datetime) -> str:
    """Return the sentence that warns."""
    at = f"at {stop.at:%Y-%m-%d %H:%M} UTC" if stop.at > now else "in a moment"
    if stop.reason is Reason.IDLE:
        return f"It is idle and will be stopped {at} unless it is used; what is outside its volume is lost then."
    return f"Its time is up {at}: it will be stopped unless given more; what is outside its volume is lost then."
