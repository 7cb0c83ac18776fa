"""The use-cases of the catalogue that everybody may have, and its first content. Called by api, pods and server.

What administrators change is `pods.gpus.editing`'s. The catalogue knows no accounts: who may see what is not on offer
(administrators) is the caller's to say.
"""

from collections.abc import Sequence

from neuropod.catalogue import store
from neuropod.catalogue.records import GpuTypeRow
from neuropod.catalogue.starters import starter_types
from neuropod.db.engine import ReadSession, Session


async def list_gpu_types(session: ReadSession, *, disabled: bool = False) -> Sequence[GpuTypeRow]:
    """Return the types on offer, in the catalogue's order; with `disabled` those too that are not on offer."""
    return await store.gpu_types(session, disabled=disabled)


async def gpu_type_on_offer(session: ReadSession, name: str) -> GpuTypeRow | None:
    """Return the type that a new run may take; None when there is no such type, or it is not on offer."""
    row = await store.gpu_type(session, name)
    return row if row is not None and row.enabled and row.deleted_at is None else None


async def load_starters(session: Session) -> None:
    """Write the types that Neuropod ships with and that are not there; called at every start.

    What is there stays as it is, prices included: it is the administrator's. One that was deleted has kept its row, so
    it does not come back.
    """
    await store.add_missing(session, starter_types())
