"""Which runtimes are served by any server: this one's own, and what others wrote (db.servers).

Made by server; told by reconcile.presence, asked by service for every view: a pod of a runtime that nobody serves is
`unreachable`, and left alone.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from neuropod.ids import RuntimeId


class Presence:
    """What is known of other servers; each counts until its lease ends, whoever notices."""

    def __init__(self, own: Collection[RuntimeId]) -> None:
        self._own = own
        self._others: tuple[tuple[frozenset[RuntimeId], datetime], ...] = ()

    @property
    def own(self) -> frozenset[RuntimeId]:
        """The runtimes that this server has opened."""
        return frozenset(self._own)

    def learn(self, others: Iterable[tuple[Iterable[str], datetime]]) -> None:
        """Take in the other servers: their runtimes, and until when that holds."""
        self._others = tuple((frozenset(RuntimeId(one) for one in ids), until) for ids, until in others)

    def served(self, now: datetime) -> frozenset[RuntimeId]:
        """Return the runtimes that some server serves now."""
        return self.own.union(*(ids for ids, until in self._others if until > now))
