"""The Secrets of a pod go: those that its Pod read, and those of which no Pod came.

Called by `making` and `ending`, and by `cluster` once in a while for those that were written later than we waited.

Incarnations of a pod have Secrets of the same names, and we may list none (SECURITY 13). So each is first patched under
the condition that it is that incarnation's, which tells what it is, and then deleted under the condition that it is
still that one: who comes late takes nothing from the next incarnation.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubeError,
    KubeUnavailableError,
    NotFoundError,
)
from neuropod.kube.informer import Key
from neuropod.kube.kinds import PODS, SECRETS
from neuropod.runtimes.contract import Place, WorkloadId
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.shapes import PodShape
from neuropod.runtimes.kubernetes.watching import ClusterWatch

log = structlog.get_logger(__name__)

_JSON_PATCH = "application/json-patch+json"
_LATE_SECONDS = 300.0  # no request takes effect later: an API server gives one up after a minute (--request-timeout)


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


@dataclass(frozen=True, slots=True)
class _Unsure:
    """Secrets that may have been written, or will be."""

    place: Key  # of the Pod that would read them
    secrets: tuple[str, ...]
    at: float


class LateSecrets:
    """What was written to the API server without an answer, and may take effect when nobody waits for it any more.

    By then its pod can be forgotten, and we may list no Secrets to find it by (SECURITY 13). So it is remembered, by
    this server and until its end: a server that dies meanwhile is one chance in very many.
    """

    def __init__(self, client: KubeClient, watch: ClusterWatch, clock: Clock) -> None:
        self._client = client
        self._watch = watch
        self._clock = clock
        self._unsure: dict[WorkloadId, _Unsure] = {}

    @contextmanager
    def writing(self, of: WorkloadId, place: Key, secrets: Iterable[str]) -> Iterator[None]:
        """Surround writes of an incarnation's Secrets: without an answer, what becomes of them is looked at later."""
        earlier = self._unsure.pop(of, None)  # they are not looked at while they are written again
        written = tuple(secrets)
        try:
            yield
        except (KubeUnavailableError, asyncio.CancelledError):
            if written:
                earlier = _Unsure(place, written, self._clock.monotonic())
            raise
        finally:
            if earlier is not None:
                self._unsure[of] = earlier

    async def look(self) -> None:
        """Delete those that stand where no Pod does, once nothing can come any more. Raises what the client raises.

        While any Pod stands in that place they wait for its end: what came late may have taken its Secrets' names.
        """
        for workload_id, unsure in list(self._unsure.items()):
            ripe = self._clock.monotonic() - unsure.at >= _LATE_SECONDS
            if not ripe or not self._watch.fresh or self._watch.at(unsure.place) is not None:
                continue
            namespace, name = unsure.place
            if await self._client.get_as(PodShape, PODS, name, namespace) is not None:
                continue
            if self._unsure.get(workload_id) is unsure:  # else they are being written again
                await drop_secrets(self._client, namespace, unsure.secrets, workload_id)
                if self._unsure.get(workload_id) is unsure:
                    del self._unsure[workload_id]
