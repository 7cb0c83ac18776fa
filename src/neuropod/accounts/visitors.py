"""Who a gate's visitor is, asked by session or key.

Called by the gateway's gate, which remembers an answer for at most `gateway.decision_cache_seconds`; a revocation also
nudges Topic.ROUTES.
"""

from dataclasses import dataclass

from neuropod.accounts.service import Accounts, SignedIn
from neuropod.db.engine import Database
from neuropod.ids import ApiKeyId, SessionId, UserId
from neuropod.words import Role, Scope


@dataclass(frozen=True, slots=True)
class Visitor:
    """An active person, by a session that lasts or by a key that passes the gate."""

    user_id: UserId
    role: Role
    session_id: SessionId | None = None
    key_id: ApiKeyId | None = None


class Visitors:
    """Opens a short reading session per question; made once by server for the gate."""

    def __init__(self, database: Database, accounts: Accounts) -> None:
        self._database = database
        self._accounts = accounts

    async def by_session(self, session_id: SessionId) -> Visitor | None:
        """Return whose console session this is; None once it is revoked, expired, or its person inactive."""
        async with self._database.read() as session:
            found = await self._accounts.by_session_id(session, session_id)
        return None if found is None else _visitor(found)

    async def by_key(self, key: str) -> Visitor | None:
        """Return whose key this is; None if it is no key, ended, or without the scope `ports` (SECURITY 27).

        The role counts only with the scope `admin`: an administrator's key without it opens their own ports alone.
        """
        async with self._database.read() as session:
            found = await self._accounts.by_key(session, key)
        if found is None or Scope.PORTS not in found.actor.scopes:
            return None
        return _visitor(found)


def _visitor(found: SignedIn) -> Visitor:
    actor = found.actor
    role = actor.role if actor.is_admin else Role.CLIENT
    return Visitor(UserId(found.user.id), role, actor.session_id, actor.key_id)
