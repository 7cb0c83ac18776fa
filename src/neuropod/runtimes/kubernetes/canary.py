"""Are NetworkPolicies enforced? Asked at each start by two Pods of ours (SECURITY 14). Called by `cluster`.

Both try to reach the API server. One stands in a namespace without a policy and has to succeed, which proves that the
question means something; the other stands behind the policy of users' pods and has to fail. Some implementations need
a moment after a Pod's start, so that one tries on for a while before it counts as let through.
"""

import asyncio
from dataclasses import dataclass

import structlog

from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.identifiers import user_hash
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import KubeError, KubeUnavailableError
from neuropod.kube.kinds import NAMESPACES, PODS
from neuropod.kube.objects import Object
from neuropod.runtimes.contract import RuntimeUnavailableError, WorkloadRejectedError
from neuropod.runtimes.kubernetes import fences, names
from neuropod.runtimes.kubernetes.fences import Fence, Tenant
from neuropod.runtimes.kubernetes.shapes import PodShape
from neuropod.runtimes.kubernetes.tenancy import put_up

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 180.0  # for both Pods, their image's pull included
_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 600.0  # after a canary that told nothing

_REACHES = 'echo | nc -w 2 "$1" "$2" >/dev/null 2>&1'  # what every `nc` can
_FREE = f"i=0; while [ $i -lt 20 ]; do {_REACHES} && exit 0; i=$((i+1)); sleep 1; done; exit 1"
_FENCED = f"i=0; while [ $i -lt 20 ]; do {_REACHES} || exit 0; i=$((i+1)); sleep 1; done; exit 1"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the policies hold, None while that is not known, and the sentence about it."""

    holds: bool | None
    message: str


UNKNOWN = Verdict(None, "Whether NetworkPolicies are enforced is being found out.")


class Canary:
    """The question, and its last answer."""

    def __init__(
        self, client: KubeClient, installation: InstallationId, clock: Clock, image: str, api: tuple[str, int]
    ) -> None:
        self._client = client
        self._installation = installation
        self._clock = clock
        self._image = image
        self._api = api
        self.verdict = UNKNOWN

    async def run(self, fence: Fence) -> None:
        """Ask until there is an answer."""
        while True:
            self.verdict = await self._ask(fence)
            log.info("network policies", hold=self.verdict.holds, told=self.verdict.message)
            if self.verdict.holds is not None:
                return
            await self._clock.sleep(_AGAIN_SECONDS)

    async def _ask(self, fence: Fence) -> Verdict:
        fenced, free = self._tenant("fenced"), self._tenant("free")
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._prepare(fenced, _made_of(fenced, fence))
                await self._prepare(free, [one for one in _made_of(free, fence) if one["kind"] != "NetworkPolicy"])
                codes = [await self._run(free, _FREE), await self._run(fenced, _FENCED)]
        except (KubeError, KubeUnavailableError, RuntimeUnavailableError, WorkloadRejectedError) as error:
            return Verdict(None, f"Whether NetworkPolicies are enforced is not known: {error}.")
        except TimeoutError:
            return Verdict(
                None, f"Whether NetworkPolicies are enforced is not known: {self._image} did not run in time."
            )
        finally:
            await self._clear(fenced, free)
        return verdict_of(*codes)

    def _tenant(self, which: str) -> Tenant:
        owner = UserId(f"canary-{which}")
        return Tenant(self._installation, owner, user_hash(f"{self._installation}/{owner}"))

    async def _prepare(self, tenant: Tenant, wanted: list[Object]) -> None:
        found = await self._client.get(NAMESPACES, tenant.namespace)
        if found is not None and not fences.belongs(found, tenant):
            raise WorkloadRejectedError(f"namespace {tenant.namespace} belongs to somebody else")
        namespace = fences.namespace(tenant)
        namespace["metadata"]["labels"][names.CANARY] = "true"
        made = await self._client.apply(namespace)
        if made["metadata"].get("deletionTimestamp"):
            raise RuntimeUnavailableError(f"namespace {tenant.namespace} is still being deleted")
        await put_up(self._client, self._clock, wanted)

    async def _run(self, tenant: Tenant, script: str) -> int | None:
        pod = canary_pod(tenant, self._image, script, self._api)
        await self._client.delete(PODS, pod["metadata"]["name"], tenant.namespace, grace_seconds=0)
        await self._client.create(pod)
        while True:
            found: PodShape | None = await self._client.get_as(
                PodShape, PODS, pod["metadata"]["name"], tenant.namespace
            )
            if found is None:
                return None
            for status in found.status.container_statuses:
                if status.state.terminated is not None:
                    return status.state.terminated.exit_code
            await self._clock.sleep(_LOOK_SECONDS)

    async def _clear(self, *tenants: Tenant) -> None:
        for tenant in tenants:
            try:
                await self._client.delete(NAMESPACES, tenant.namespace)
            except (KubeError, KubeUnavailableError) as error:
                log.info("a canary's namespace is left", namespace=tenant.namespace, error=str(error))


def _made_of(tenant: Tenant, fence: Fence) -> list[Object]:
    """Return what stands in a canary's namespace, which ends at once when it is deleted."""
    made = fences.fences(tenant, fence)
    for obj in made:
        obj["metadata"].pop("finalizers", None)
    return made


def verdict_of(free: int | None, fenced: int | None) -> Verdict:
    """Return what the two exit codes mean."""
    if free is None or fenced is None:
        return Verdict(None, "Whether NetworkPolicies are enforced is not known: a canary was deleted.")
    if free != 0:
        return Verdict(
            None, "Whether NetworkPolicies are enforced is not known: without one, nothing is reached either."
        )
    if fenced != 0:
        return Verdict(False, "The cluster does not enforce NetworkPolicies: pods reach each other and the API server.")
    return Verdict(
        True, "NetworkPolicies are enforced: a pod is reached by the gateway alone, and reaches the internet."
    )


def canary_pod(tenant: Tenant, image: str, script: str, api: tuple[str, int]) -> Object:
    """Return the Pod that asks."""
    small = {"cpu": "50m", "memory": "32Mi", "ephemeral-storage": "16Mi"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "canary",
            "namespace": tenant.namespace,
            "labels": {names.CANARY: "true", names.USER: tenant.owner_hash},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 65534, "runAsNonRoot": True},
            "containers": [
                {
                    "name": names.CONTAINER,
                    "image": image,
                    "command": ["/bin/sh", "-c", script, "sh", api[0], str(api[1])],
                    "resources": {"limits": small, "requests": small},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
