"""Which pods name which secrets. Called by pods.secrets.service."""

from sqlalchemy import select

from neuropod.db.engine import ReadSession
from neuropod.ids import UserId
from neuropod.pods.records import PodRow
from neuropod.words import Want


async def pods_by_secret(session: ReadSession, owner_id: UserId) -> dict[str, list[tuple[str, str]]]:
    """Return id and name of a user's pods that will need a secret, by its name; not those that are being deleted."""
    query = (
        select(PodRow.id, PodRow.name, PodRow.env_secrets)
        .where(PodRow.owner_id == owner_id, PodRow.closed_at.is_(None), PodRow.want != Want.GONE)
        .order_by(PodRow.name)
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for pod_id, name, env_secrets in await session.execute(query):
        for secret in sorted(set((env_secrets or {}).values())):
            found.setdefault(secret, []).append((pod_id, name))
    return found
