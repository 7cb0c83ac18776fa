"""Who holds the GPUs that somebody waits for: one entry per pod. Pure; used by showing and quoting.

Everybody may know how many GPUs are held by how many pods; the names are for administrators and for the pods' owners
(`api.answers` sees to that).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from neuropod.ids import PodId, UserId
from neuropod.pods.gpus.health import Held


@dataclass(frozen=True, slots=True)
class Holder:
    """A pod that has GPUs which another one waits for."""

    pod_id: PodId
    pod_name: str
    owner_id: UserId
    owner_email: str
    gpus: int


def holders_of(held: Iterable[Held]) -> tuple[Holder, ...]:
    """Return the pods that hold these GPUs, by name."""
    found: dict[PodId, Holder] = {}
    for one in held:
        before = found.get(one.pod_id)
        gpus = 1 if before is None else before.gpus + 1
        found[one.pod_id] = Holder(one.pod_id, one.pod_name, one.owner_id, one.owner_email, gpus)
    return tuple(sorted(found.values(), key=lambda holder: (holder.pod_name, holder.pod_id)))
