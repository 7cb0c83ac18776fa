"""The Secrets of a pod go: those that its Pod read, and those of which no Pod came. Called by `making` and `ending`.

Incarnations of a pod have Secrets of the same names, and we may list none (SECURITY 13). So each is first patched under
the condition that it is that incarnation's, which tells what it is, and then deleted under the condition that it is
still that one: who comes late takes nothing from the next incarnation.
"""

from collections.abc import Iterable
from typing import Any

import structlog

from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ConflictError, ForbiddenError, InvalidError, KubeError, NotFoundError
from neuropod.kube.kinds import SECRETS
from neuropod.runtimes.contract import Place, WorkloadId
from neuropod.runtimes.kubernetes import names

log = structlog.get_logger(__name__)

_JSON_PATCH = "application/json-patch+json"


async def drop_secrets(client: KubeClient, namespace: str, secrets: Iterable[str], of: WorkloadId) -> None:
    """Delete those of the Secrets that are that incarnation's. Raises KubeUnavailableError.

    By ourselves: the next one's have the same names, and collectors of garbage lag.
    """
    marks = {names.POD: of.pod, names.INCARNATION: str(of.incarnation)}
    tests = [
        {"op": "test", "path": f"/metadata/labels/{label.replace('/', '~1')}", "value": value}
        for label, value in marks.items()
    ]
    for name in secrets:
        try:
            found: Any = await client.request_json(
                "PATCH", SECRETS.path(namespace, name), body=tests, content_type=_JSON_PATCH, repeatable=True
            )
            metadata = found["metadata"]
            await client.delete(
                SECRETS, name, namespace, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
            )
        except (NotFoundError, InvalidError, ConflictError, ForbiddenError):
            continue  # it is not there, or another's; without the namespace we have no rights in it
        except KubeError as error:
            log.warning("a pod's Secret cannot be deleted", secret=name, namespace=namespace, error=str(error))


async def drop_secrets_of_place(client: KubeClient, place: Place, of: WorkloadId) -> None:
    """Delete what an `ensure` left that was cut off before it made the Pod. Raises KubeUnavailableError."""
    both = (names.secret_of(place), names.registry_secret_of(place))
    await drop_secrets(client, names.namespace_of(place.owner_hash), both, of)
