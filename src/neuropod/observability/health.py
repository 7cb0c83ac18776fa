"""The board that parts of the server report their health to; `/readyz`, `/api/v1/system` and `operate` read it.

A loop reports after every pass and says how long its word is good: one that has died or hangs is not ok by silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from neuropod.kit.clock import Clock


@dataclass(frozen=True, slots=True)
class PartHealth:
    """How a part was when it reported last. `needed` parts decide whether the server is ready."""

    name: str
    ok: bool
    message: str
    at: datetime | None
    needed: bool
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(slots=True)
class _Entry:
    health: PartHealth
    reported: float
    good_seconds: float | None


class Board:
    """One per server; parts are named by who makes them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def expect(self, name: str, *, needed: bool = True) -> None:
        """Say that a part of that name will report; until then it is not ok."""
        health = PartHealth(name, ok=False, message="has not reported yet", at=None, needed=needed)
        self._entries.setdefault(name, _Entry(health, self._clock.monotonic(), None))

    def report(
        self, name: str, *, ok: bool, message: str = "", good_seconds: float | None = None, **details: object
    ) -> None:
        """Report how a part is. After `good_seconds` without another report it counts as not ok (None: never).

        `details` are for operators (`/api/v1/system`): reason and duration of the last pass, its counts.
        """
        earlier = self._entries.get(name)
        needed = earlier.health.needed if earlier else True
        health = PartHealth(name, ok, message, self._clock.now(), needed, MappingProxyType(details))
        self._entries[name] = _Entry(health, self._clock.monotonic(), good_seconds)

    def parts(self) -> list[PartHealth]:
        """Return all parts by name, silent ones marked."""
        now = self._clock.monotonic()
        return [_judged(entry, now) for _, entry in sorted(self._entries.items())]

    @property
    def ready(self) -> bool:
        """Whether every part that is needed is ok."""
        return all(part.ok for part in self.parts() if part.needed)


def _judged(entry: _Entry, now: float) -> PartHealth:
    health = entry.health
    silent = now - entry.reported
    if entry.good_seconds is None or silent <= entry.good_seconds:
        return health
    message = f"no report for {silent:.0f} s; the last was: {health.message or 'ok'}"
    return PartHealth(health.name, False, message, health.at, health.needed, health.details)
