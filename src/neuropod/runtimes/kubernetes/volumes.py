"""Volumes as claims: made at first use, measured by the node that has them mounted, grown where the class allows it.

Called by `making` and `runtime`. A claim is found by the volume's id on its label, whatever it is called; it is
deleted on the owner's word alone, and what becomes of the data then is the class's business.
"""

from collections.abc import Mapping, Sequence

from neuropod.ids import InstallationId, VolumeId
from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ConflictError, ForbiddenError, InvalidError
from neuropod.kube.kinds import PERSISTENT_VOLUME_CLAIMS, PODS, STORAGE_CLASSES
from neuropod.kube.objects import count_of
from neuropod.runtimes.contract import RuntimeUnavailableError, VolumeMount, Workload, WorkloadRejectedError
from neuropod.runtimes.kubernetes import names, objects, reasons
from neuropod.runtimes.kubernetes.asking import asking
from neuropod.runtimes.kubernetes.seen import is_ended
from neuropod.runtimes.kubernetes.shapes import ClaimShape, PodShape, StorageClassShape
from neuropod.runtimes.kubernetes.usage import ClaimUse, NodeStats
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from neuropod.runtimes.volumes import NoRoomError, VolumeInUseError, VolumeUse
from neuropod.settings import ClusterSettings
from neuropod.words import Reason

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_CLASSES_SECONDS = 60.0
_GROWTH_LOOKS, _GROWTH_PAUSE_SECONDS = 12, 0.25
_LEAST_FREE = 1 << 20  # with less, next to nothing can be written
_SHARED = 1.5  # times its size: a file system that large is not the volume's own


class Claims:
    """The claims of one cluster."""

    def __init__(
        self,
        client: KubeClient,
        watch: ClusterWatch,
        stats: NodeStats,
        installation: InstallationId,
        settings: ClusterSettings,
        clock: Clock,
    ) -> None:
        self._client = client
        self._watch = watch
        self._stats = stats
        self._installation = installation
        self._settings = settings
        self._clock = clock
        self._classes: tuple[float, list[StorageClassShape]] | None = None
        self._used: dict[VolumeId, ClaimUse] = {}  # when it was measured last, mounted

    # ---- first use

    async def ensure(self, workload: Workload) -> str | None:
        """Let the volume's claim be there and return its name; None without a volume.

        Raises WorkloadRejectedError, RuntimeUnavailableError, and what the client raises.
        """
        volume = workload.volume
        if volume is None:
            return None
        namespace = names.namespace_of(workload.owner_hash)
        found = self._known(namespace, volume.id) or await self._find(volume.id, namespace)
        if found is not None:
            if found.metadata.deletion_timestamp is not None:
                raise RuntimeUnavailableError(f"volume {volume.name} is being deleted")
            return found.metadata.name
        if volume.made:  # an empty one in its stead would hide that what was in it is gone
            raise WorkloadRejectedError(
                f"volume {volume.name} was there, and its claim in namespace {namespace} is gone",
                reason=Reason.VOLUME_LOST,
            )
        return await self._make(workload, volume)

    async def _make(self, workload: Workload, volume: VolumeMount) -> str:
        chosen = await self._class()
        if chosen is None:
            wanted = self._settings.storage_class
            what = "has no default StorageClass" if wanted is None else f"has no StorageClass {wanted!r}"
            raise WorkloadRejectedError(f"the cluster {what}, so that no volume can be made")
        name = names.claim_of(volume, workload.owner_hash, by_id=chosen.reclaim_policy == "Retain")
        claim = objects.claim(
            volume, workload, name, storage_class=chosen.metadata.name, access=self._settings.volume_access
        )
        try:
            await self._client.create(claim)
        except ConflictError:
            namespace = names.namespace_of(workload.owner_hash)
            there = await self._client.get_as(ClaimShape, PERSISTENT_VOLUME_CLAIMS, name, namespace)
            if there is not None and there.metadata.labels.get(names.VOLUME) == volume.id:
                return name
            raise RuntimeUnavailableError(f"another claim {name} stands there, most likely being deleted") from None
        except (ForbiddenError, InvalidError) as error:
            told = reasons.refused(error.message)
            if told is None:
                raise
            raise WorkloadRejectedError(told.message, reason=told.reason) from error
        return name

    def _known(self, namespace: str, volume_id: VolumeId) -> ClaimShape | None:
        return next(
            (
                claim
                for claim in self._watch.claims()
                if claim.metadata.namespace == namespace and claim.metadata.labels.get(names.VOLUME) == volume_id
            ),
            None,
        )

    async def _find(self, volume_id: VolumeId, namespace: str | None = None) -> ClaimShape | None:
        selector = names.selector_of_volume(self._installation, volume_id)
        found, _ = await self._client.list_at(ClaimShape, PERSISTENT_VOLUME_CLAIMS, namespace, labels=selector)
        return next(iter(found), None)

    async def _class(self, name: str | None = None) -> StorageClassShape | None:
        """Return a class by name, by default the one of the settings, or else the cluster's default."""
        now = self._clock.monotonic()
        if self._classes is None or now - self._classes[0] > _CLASSES_SECONDS:
            listed, _ = await self._client.list_at(StorageClassShape, STORAGE_CLASSES)
            self._classes = now, listed
        wanted = name or self._settings.storage_class
        for one in self._classes[1]:
            if one.metadata.name == wanted or (
                wanted is None and one.metadata.annotations.get(_DEFAULT_CLASS) == "true"
            ):
                return one
        return None

    # ---- the contract's Volumes

    async def use(self, volume_ids: Sequence[VolumeId]) -> Mapping[VolumeId, VolumeUse]:
        """See the contract."""
        with asking():
            labels = f"{names.INSTALLATION}={self._installation},{names.VOLUME} in ({','.join(sorted(volume_ids))})"
            claims, _ = await self._client.list_at(ClaimShape, PERSISTENT_VOLUME_CLAIMS, labels=labels)
        there = [claim for claim in claims if claim.metadata.deletion_timestamp is None]
        mounted = await self._stats.claims({pod.spec.node_name for pod in self._watch.pods() if pod.claim is not None})
        found = {}
        for claim in there:
            volume_id = VolumeId(claim.metadata.labels[names.VOLUME])
            measured = mounted.get((claim.metadata.namespace, claim.metadata.name))
            if measured is not None:
                self._used[volume_id] = measured
            found[volume_id] = use_of(claim, self._used.get(volume_id), self._clock)
        return found

    async def grow(self, volume_id: VolumeId, size_bytes: int) -> bool:
        """See the contract."""
        with asking():
            claim = await self._find(volume_id)
            if claim is None or count_of(claim.spec.resources.requests.get("storage", "0")) >= size_bytes:
                return claim is None or count_of(claim.status.capacity.get("storage", "0")) >= size_bytes
            chosen = await self._class(claim.spec.storage_class_name)
            if chosen is None or not chosen.allow_volume_expansion:
                raise NoRoomError(
                    f"Volumes of the class {claim.spec.storage_class_name!r} cannot grow. "
                    "Make a larger volume and copy what is to be kept."
                )
            patch = {
                "metadata": {"uid": claim.metadata.uid},
                "spec": {"resources": {"requests": {"storage": str(size_bytes)}}},
            }
            try:
                await self._client.merge_patch(
                    PERSISTENT_VOLUME_CLAIMS, claim.metadata.name, claim.metadata.namespace, patch
                )
            except (ForbiddenError, InvalidError) as error:
                raise NoRoomError(f"The cluster refuses that size: {reasons.clause(error.message)}.") from error
            return await self._has_grown(claim, size_bytes)

    async def _has_grown(self, claim: ClaimShape, size_bytes: int) -> bool:
        """Wait a moment for it: what grows while it is mounted mostly does so within a second or two."""
        for _ in range(_GROWTH_LOOKS):
            there: ClaimShape | None = await self._client.get_as(
                ClaimShape, PERSISTENT_VOLUME_CLAIMS, claim.metadata.name, claim.metadata.namespace
            )
            if there is None or count_of(there.status.capacity.get("storage", "0")) >= size_bytes:
                return True
            await self._clock.sleep(_GROWTH_PAUSE_SECONDS)
        return False

    async def remove(self, volume_id: VolumeId) -> None:
        """See the contract."""
        with asking():
            selector = names.selector_of_volume(self._installation, volume_id)
            users, _ = await self._client.list_at(PodShape, PODS, labels=selector)
            for pod in users:
                if not is_ended(pod):
                    raise VolumeInUseError(f"{pod.metadata.labels.get(names.APP)} uses it")
            claim = await self._find(volume_id)
            if claim is not None and claim.metadata.deletion_timestamp is None:
                await self._client.delete(
                    PERSISTENT_VOLUME_CLAIMS,
                    claim.metadata.name,
                    claim.metadata.namespace,
                    uid=claim.metadata.uid,
                )
        self._used.pop(volume_id, None)


def use_of(claim: ClaimShape, measured: ClaimUse | None, clock: Clock) -> VolumeUse:
    """Return how a volume is; one that is not bound yet has the size that it was asked for.

    Of a class that makes folders on a shared disk nobody measures the single volume: 0 is used as far as is known, and
    it is full when the disk is.
    """
    asked = count_of(claim.spec.resources.requests.get("storage", "0"))
    size = count_of(claim.status.capacity.get("storage", "0")) or asked
    own = measured is not None and measured.capacity_bytes <= size * _SHARED
    return VolumeUse(
        size_bytes=size,
        used_bytes=measured.used_bytes if measured is not None and own else 0,
        full=measured is not None and measured.available_bytes < _LEAST_FREE,
        measured_at=clock.now(),
        grows_later=asked > size,
    )
