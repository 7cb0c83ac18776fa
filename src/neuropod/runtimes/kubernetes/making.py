"""Ensure: the namespace, the claim, the Secrets, then the Pod. Called by `runtime`.

It may be repeated, and be cut off anywhere: the Pod is made last, by a write that fails where another one stands. Then
its Secrets are given to it, by whoever finds it there too: their first apply takes away an owner that they had.
"""

import msgspec

from neuropod.ids import InstallationId
from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    KubeError,
    NotFoundError,
)
from neuropod.kube.informer import Key
from neuropod.kube.kinds import PODS
from neuropod.kube.objects import Object, Objects, owner_reference
from neuropod.runtimes.contract import RuntimeUnavailableError, Workload, WorkloadRejectedError
from neuropod.runtimes.kubernetes import names, objects, reasons
from neuropod.runtimes.kubernetes.asking import asking
from neuropod.runtimes.kubernetes.fences import Tenant
from neuropod.runtimes.kubernetes.objects import Ways
from neuropod.runtimes.kubernetes.secrets import LateSecrets, drop_secrets
from neuropod.runtimes.kubernetes.seen import is_ended
from neuropod.runtimes.kubernetes.shapes import PodShape
from neuropod.runtimes.kubernetes.standing import is_incarnation
from neuropod.runtimes.kubernetes.tenancy import Tenancy
from neuropod.runtimes.kubernetes.volumes import Claims
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from neuropod.words import Reason

_COUNT_LOOKS, _COUNT_PAUSE_SECONDS = 30, 0.2


class Making:
    """Makes workloads on one cluster."""

    def __init__(
        self,
        client: KubeClient,
        watch: ClusterWatch,
        tenancy: Tenancy,
        claims: Claims,
        installation: InstallationId,
        ways: Ways,
        clock: Clock,
    ) -> None:
        self._client = client
        self._watch = watch
        self._tenancy = tenancy
        self._claims = claims
        self._installation = installation
        self._ways = ways
        self._clock = clock
        self.late = LateSecrets(client, watch, clock)  # to be looked at once in a while

    async def ensure(self, workload: Workload) -> None:
        """See the contract."""
        if workload.image is None:
            raise WorkloadRejectedError("a cluster runs images, and this one has none")
        place = names.namespace_of(workload.owner_hash), names.pod_of(workload)
        with asking():
            if (there := await self._there(workload, place)) is not None:
                if not is_ended(there):  # else `remove` is due, and what it drops is not to come again
                    await self._give(_secrets_of(workload), there)
                return
            for last in (False, True):
                try:
                    await self._make(workload)
                except NotFoundError as error:  # the namespace was deleted since we looked
                    self._tenancy.forget(place[0])
                    if last:
                        raise RuntimeUnavailableError(str(error)) from error
                else:
                    break
        self._watch.remember(workload.id.pod, place)

    async def _there(self, workload: Workload, place: Key) -> PodShape | None:
        """Return that incarnation's Pod if it stands already. Raises WorkloadRejectedError: something else does."""
        if self._watch.fresh and self._watch.at(place) is None:
            return None  # should it be there all the same, making it meets it
        found: PodShape | None = await self._client.get_as(PodShape, PODS, place[1], place[0])
        if found is None or is_incarnation(found, workload.id):
            return found
        other = names.workload_of(found.metadata.labels)
        if other is None or (other.installation, other.pod) != (workload.id.installation, workload.id.pod):
            raise WorkloadRejectedError(f"Another Pod {place[1]} stands there.", reason=Reason.PLACE_OCCUPIED)
        raise WorkloadRejectedError(
            f"Incarnation {other.incarnation} of this pod is still there.", reason=Reason.PLACE_OCCUPIED
        )

    async def _make(self, workload: Workload) -> None:
        tenant = Tenant(self._installation, workload.owner, workload.owner_hash)
        await self._tenancy.prepare(tenant)
        claim = await self._claims.ensure(workload)
        secrets = _secrets_of(workload)
        place = tenant.namespace, names.pod_of(workload)
        made_names = [secret["metadata"]["name"] for secret in secrets]
        with self.late.writing(workload.id, place, made_names):
            for secret in secrets:
                await self._client.apply(secret)
            try:
                made = await self._create(objects.pod(workload, self._ways, claim=claim))
            except ConflictError:
                pod = await self._live(workload, place)
                if pod is None:
                    raise RuntimeUnavailableError("what stood in its place is just going") from None
            except (ForbiddenError, InvalidError) as error:
                await drop_secrets(self._client, tenant.namespace, made_names, workload.id)
                raise self._refusal(error, tenant.namespace) from error
            else:
                pod = msgspec.convert(made, PodShape)
                self._watch.answered(place, pod)
            await self._give(secrets, pod)

    async def _give(self, secrets: Objects, pod: PodShape) -> None:
        """Let the Secrets go with the Pod that reads them, also when somebody else deletes it."""
        metadata = {"name": pod.metadata.name, "uid": pod.metadata.uid}
        owner = owner_reference({"apiVersion": PODS.api_version, "kind": PODS.kind, "metadata": metadata})
        for secret in secrets:
            secret["metadata"]["ownerReferences"] = [owner]
            await self._client.apply(secret)

    async def _create(self, pod: Object) -> Object:
        """Create the Pod; a quota that changed just now lets nothing in before it was counted."""
        for _ in range(_COUNT_LOOKS):
            try:
                return await self._client.create(pod)
            except ForbiddenError as error:
                if not reasons.is_not_counted(error.message):
                    raise
            await self._clock.sleep(_COUNT_PAUSE_SECONDS)
        raise RuntimeUnavailableError("the quota of the user's namespace was not counted yet")

    async def _live(self, workload: Workload, place: Key) -> PodShape | None:
        found: PodShape | None = await self._client.get_as(PodShape, PODS, place[1], place[0])
        if found is not None and not is_incarnation(found, workload.id):
            raise WorkloadRejectedError(f"Another Pod {place[1]} stands there.", reason=Reason.PLACE_OCCUPIED)
        return found

    def _refusal(self, error: KubeError, namespace: str) -> Exception:
        if "being terminated" in error.message:
            self._tenancy.forget(namespace)
            return RuntimeUnavailableError("the user's namespace is being deleted")
        told = reasons.refused(error.message)
        if told is not None:
            return WorkloadRejectedError(told.message, reason=told.reason)
        if isinstance(error, InvalidError):
            return WorkloadRejectedError(reasons.clause(error.message))
        return error


def _secrets_of(workload: Workload) -> Objects:
    """Return the Secrets that its Pod reads."""
    secrets = [objects.env_secret(workload)] if objects.secret_env(workload) else []
    if workload.pull_credential is not None:
        secrets.append(objects.registry_secret(workload, workload.pull_credential))
    return secrets
