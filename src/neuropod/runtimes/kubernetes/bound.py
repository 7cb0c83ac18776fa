"""Where bound volumes can be used: what their PersistentVolumes require of nodes, by a watch where we may read them.

Made and run by `cluster`, asked by `capacity`. An older deploy gives no right to read PersistentVolumes: then nothing
is required as far as is known, and a volume is tied to the machine alone that has it mounted.
"""

import asyncio
from collections.abc import Iterable, Mapping

import structlog

from neuropod.ids import VolumeId
from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ForbiddenError, KubeError, KubeUnavailableError
from neuropod.kube.informer import Informer
from neuropod.kube.kinds import PERSISTENT_VOLUMES
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.affinity import matches
from neuropod.runtimes.kubernetes.seen import is_ended
from neuropod.runtimes.kubernetes.shapes import (
    ClaimShape,
    NodeSelectorShape,
    NodeShape,
    PersistentVolumeShape,
    PodShape,
)

log = structlog.get_logger(__name__)

_NONE = "metadata.name=none"  # asks for the right, and for nothing else
_REFUSED_AGAIN_SECONDS = 600.0
_AWAY_AGAIN_SECONDS = 5.0


class BoundVolumes:
    """The PersistentVolumes of one cluster."""

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._volumes = Informer(client, PERSISTENT_VOLUMES, PersistentVolumeShape, clock=clock)
        self._asked = asyncio.Event()  # whether we may read them is known
        self._refused = False

    async def run(self) -> None:
        """Follow them until cancelled; where we may not, ask again once in a while."""
        while not await self._may_read():
            await self._clock.sleep(_REFUSED_AGAIN_SECONDS if self._refused else _AWAY_AGAIN_SECONDS)
        await self._volumes.run()

    async def _may_read(self) -> bool:
        try:
            await self._client.list_at(PersistentVolumeShape, PERSISTENT_VOLUMES, fields=_NONE)
        except ForbiddenError as error:
            if not self._refused:
                log.warning(
                    "where volumes are is known only while pods have them: apply the newer deploy/20-rights.yaml",
                    error=error.message,
                )
            self._refused = True
        except (KubeError, KubeUnavailableError) as error:
            log.info("PersistentVolumes cannot be read", error=str(error))
            return False
        else:
            self._refused = False
        self._asked.set()
        return not self._refused

    async def known(self, timeout_seconds: float) -> None:
        """Return once they were read, or are known to be none of ours to read. Raises KubeUnavailableError."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._asked.wait()
        except TimeoutError:
            raise KubeUnavailableError("the cluster does not say whether PersistentVolumes may be read") from None
        if not self._refused:
            await self._volumes.synced(timeout_seconds)

    def required(self, name: str) -> NodeSelectorShape | None:
        """Return what a PersistentVolume requires of nodes; None: nothing, as far as is known.

        Also while the watch is cut: it hardly ever changes.
        """
        found = self._volumes.items.get(("", name))
        affinity = None if found is None else found.spec.node_affinity
        return None if affinity is None else affinity.required


def mounted_on(pods: Iterable[PodShape]) -> dict[VolumeId, frozenset[str]]:
    """Return where volumes are mounted now; pure."""
    return {
        VolumeId(pod.metadata.labels[names.VOLUME]): frozenset({pod.spec.node_name})
        for pod in pods
        if names.VOLUME in pod.metadata.labels and pod.spec.node_name and not is_ended(pod)
    }


def kept_on(
    claims: Iterable[ClaimShape], volumes: BoundVolumes, nodes: Iterable[NodeShape]
) -> dict[VolumeId, frozenset[str]]:
    """Return on which nodes bound volumes can be used, of those that require something of their node."""
    there = [(node.metadata.name, node.metadata.labels) for node in nodes]
    found: dict[NodeSelectorShape, frozenset[str]] = {}  # most are for one of a few nodes or zones
    kept = {}
    for claim in claims:
        required = volumes.required(claim.spec.volume_name) if claim.spec.volume_name else None
        if required is None or names.VOLUME not in claim.metadata.labels:
            continue
        if required not in found:
            found[required] = frozenset(name for name, labels in there if matches(required, labels))
        kept[VolumeId(claim.metadata.labels[names.VOLUME])] = found[required]
    return kept


def hosts_of(
    mounted: Mapping[VolumeId, frozenset[str]], kept: Mapping[VolumeId, frozenset[str]], hosts: Iterable[str]
) -> dict[VolumeId, frozenset[str]]:
    """Return on which machines alone volumes can be used now; pure.

    `mounted`: where they are in use, and no other can share them; `kept`: where their data are, which ties none to
    anything where that is each of `hosts`.
    """
    every = frozenset(hosts)
    return {**{volume: where for volume, where in kept.items() if not every <= where}, **mounted}
