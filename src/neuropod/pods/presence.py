"""Which runtimes are served by any server: this one's own, and what others wrote (db.servers).

Made by server; told by reconcile.presence, asked by service for every view: a pod of a runtime that nobody serves is
`unreachable`, and left alone.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from neuropod.db.engine import ReadSession
from neuropod.db.servers import all_servers
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
        """Take in the servers: their runtimes, and until when that holds. Whether this one is among them is all one."""
        self._others = tuple((frozenset(RuntimeId(one) for one in ids), until) for ids, until in others)

    async def refresh(self, session: ReadSession) -> None:
        """Take in the servers as this session sees them, so that what is shown with an event is no older than it."""
        if session.get_bind().dialect.name != "sqlite":
            self.learn((row.runtimes, row.lease_until) for row in await all_servers(session))

    def served(self, now: datetime) -> frozenset[RuntimeId]:
        """Return the runtimes that some server serves now."""
        return self.own.union(*(ids for ids, until in self._others if until > now))
