"""Users' namespaces: made at first use, adopted only when they are theirs, fenced before anything runs in them.

Called by `runtime.ensure`. What is in one is looked at once in a while and put back where somebody changed it.
"""

import asyncio
from collections.abc import Callable, Iterable
from weakref import WeakValueDictionary

import structlog

from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from neuropod.kube.kinds import NAMESPACES, ROLE_BINDINGS
from neuropod.kube.objects import Object
from neuropod.runtimes.contract import RuntimeUnavailableError, WorkloadRejectedError
from neuropod.runtimes.kubernetes import fences, names, reasons
from neuropod.runtimes.kubernetes.fences import Fence, Tenant
from neuropod.words import Reason

log = structlog.get_logger(__name__)

_RIGHTS_SECONDS = 5.0  # until the API server's authoriser has read a RoleBinding that was just made
_COUNT_SECONDS = 10.0  # until a quota that was just made holds
_LOOK_SECONDS = 0.05


class Tenancy:
    """The namespaces of one cluster."""

    def __init__(self, client: KubeClient, clock: Clock, fence: Callable[[], Fence]) -> None:
        self._client = client
        self._clock = clock
        self._fence = fence  # as it is now: nodes come and go
        self._fenced: dict[str, Tenant] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def prepare(self, tenant: Tenant) -> None:
        """Let the user's namespace be there, fenced. Looked at once per namespace, until `forget`.

        Raises WorkloadRejectedError where it is somebody else's, RuntimeUnavailableError while one is being deleted or
        its quota is not counted yet, and what the client raises.
        """
        if self._fenced.get(tenant.namespace) == tenant:
            return
        async with self._locks.setdefault(tenant.namespace, asyncio.Lock()):
            if self._fenced.get(tenant.namespace) != tenant:
                await self._take(tenant)
                await self._put_back(tenant)
                await self._counted(tenant)
                self._fenced[tenant.namespace] = tenant

    def forget(self, namespace: str) -> None:
        """Look again the next time: something said that it is not there any more."""
        self._fenced.pop(namespace, None)

    async def _take(self, tenant: Tenant) -> None:
        found = await self._client.get(NAMESPACES, tenant.namespace)
        if found is None:
            try:
                found = await self._client.create(fences.namespace(tenant))
            except ConflictError:  # another server was quicker
                found = await self._client.get(NAMESPACES, tenant.namespace)
        if found is None or found["metadata"].get("deletionTimestamp"):
            raise RuntimeUnavailableError(f"namespace {tenant.namespace} is being deleted")
        if not fences.belongs(found, tenant):
            raise WorkloadRejectedError(
                f"namespace {tenant.namespace} of the cluster belongs to somebody else; an administrator has to look",
                reason=Reason.REJECTED,
            )

    async def _put_back(self, tenant: Tenant) -> None:
        await self._client.apply(fences.namespace(tenant))
        await put_up(self._client, self._clock, fences.fences(tenant, self._fence()))

    async def _counted(self, tenant: Tenant) -> None:
        """Return once the user's quota holds: the API server refuses a Pod that is beyond it.

        Until its admission has heard of a new quota (by a watch of its own), it lets in whatever comes, and that is
        missing in the count for minutes: the controller counts anew every five, and at deletions (seen: two Pods where
        one may be, also with the quota's status there). Of several API servers only the one that answers is asked.
        """
        beyond = fences.beyond_quota(tenant, self._fence())
        if beyond is None:
            return
        end = self._clock.monotonic() + _COUNT_SECONDS
        while not await self._refuses(beyond, tenant):
            if self._clock.monotonic() > end:
                raise RuntimeUnavailableError("the quota of the user's namespace was not counted yet")
            await self._clock.sleep(_LOOK_SECONDS)

    async def _refuses(self, beyond: Object, tenant: Tenant) -> bool:
        try:
            await self._client.create(beyond, dry_run=True)
        except (ForbiddenError, InvalidError) as error:
            if reasons.is_beyond_quota(error.message):
                return True
            if reasons.is_not_counted(error.message):
                return False
        else:
            return False
        # An administrator's policy came first, so that this is not to be learnt: at least let it be counted.
        quota = await self._client.apply(fences.resource_quota(tenant, self._fence()))
        return bool(quota.get("status", {}).get("hard"))

    # ---- once in a while

    async def look(self, installation: InstallationId, stands: Callable[[str], bool]) -> int:
        """Put back what somebody changed in users' namespaces; return how many there are.

        Those that somebody deletes end once none of our Pods `stands` there: then our rights end too. Raises what the
        client raises.
        """
        found = await self._client.list(NAMESPACES, labels=names.selector_of_installation(installation))
        tenants = [(one["metadata"], tenant_of(installation, one)) for one in found]
        for metadata, tenant in tenants:
            if metadata.get("deletionTimestamp"):
                self.forget(metadata["name"])
                if not stands(metadata["name"]):
                    await self._drop_binding(metadata["name"])
            elif tenant is not None:
                await self._put_back(tenant)
        return len(tenants)

    async def _drop_binding(self, namespace: str) -> None:
        try:
            await self._client.merge_patch(ROLE_BINDINGS, fences.NAME, namespace, {"metadata": {"finalizers": []}})
        except NotFoundError:
            return
        log.info("a user's namespace was deleted, not by Neuropod", namespace=namespace)


def tenant_of(installation: InstallationId, found: Object) -> Tenant | None:
    """Return whose namespace it is; None for the canary's, and for one whose marks somebody changed."""
    metadata = found["metadata"]
    owner, owner_hash = metadata.get("annotations", {}).get(names.USER_ID), metadata["labels"].get(names.USER)
    if not owner or not owner_hash or names.CANARY in metadata["labels"]:
        return None
    tenant = Tenant(installation, UserId(owner), owner_hash)
    return tenant if tenant.namespace == metadata["name"] else None


async def put_up(client: KubeClient, clock: Clock, wanted: Iterable[Object]) -> None:
    """Apply what fences a namespace off; our own rights there come first and hold a moment later.

    Raises what the client raises; ForbiddenError after some seconds.
    """
    end = clock.monotonic() + _RIGHTS_SECONDS
    for obj in wanted:
        while True:
            try:
                await client.apply(obj)
            except ForbiddenError:
                if clock.monotonic() > end:
                    raise
                await clock.sleep(_LOOK_SECONDS)
            else:
                break


def server_subject(username: str) -> Object | None:
    """Return who we are as the subject of a RoleBinding; None for one who has rights of his own (a kubeconfig)."""
    words = username.split(":")
    if len(words) != 4 or words[:2] != ["system", "serviceaccount"]:
        return None
    return {"kind": "ServiceAccount", "namespace": words[2], "name": words[3]}
