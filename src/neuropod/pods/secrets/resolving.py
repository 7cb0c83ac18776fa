"""From the names of secrets to their values, when a workload is made, and whether there are such, when a pod is.

Called by service (a value is opened at the last moment, for a runtime) and by drafts.
"""

from collections.abc import Iterable, Mapping

from neuropod.accounts.secrets.service import open_secrets
from neuropod.accounts.secrets.store import names_of
from neuropod.db.engine import ReadSession
from neuropod.ids import PodId, UserId
from neuropod.kit.errors import FieldError
from neuropod.kit.secrets import Secret, SecretBox
from neuropod.pods.records import PodRow
from neuropod.pods.workload import Lacking


async def wrong_secrets(session: ReadSession, owner_id: UserId, env_secrets: Mapping[str, str]) -> list[FieldError]:
    """Return what variables name secrets that their owner does not have."""
    if not env_secrets:
        return []
    there = await names_of(session, owner_id)
    return [
        FieldError(f"env.{variable}", "no_secret", f"{variable} takes the secret {name!r}, which is not set")
        for variable, name in env_secrets.items()
        if name not in there
    ]


async def resolve(
    session: ReadSession, box: SecretBox, pods: Iterable[PodRow]
) -> dict[PodId, dict[str, Secret] | Lacking]:
    """Return what each of the pods that name secrets is given for them, or which its owner does not have any more.

    One query for any number of pods.
    """
    naming = {PodId(pod.id): (UserId(pod.owner_id), pod.env_secrets) for pod in pods if pod.env_secrets}
    wanted: dict[UserId, set[str]] = {}
    for owner_id, env_secrets in naming.values():
        wanted.setdefault(owner_id, set()).update(env_secrets.values())
    values = await open_secrets(session, box, wanted)
    found: dict[PodId, dict[str, Secret] | Lacking] = {}
    for pod_id, (owner_id, env_secrets) in naming.items():
        lacking = sorted({name for name in env_secrets.values() if (owner_id, name) not in values})
        found[pod_id] = (
            Lacking(tuple(lacking))
            if lacking
            else {variable: values[owner_id, name] for variable, name in env_secrets.items()}
        )
    return found
