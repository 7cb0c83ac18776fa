"""Are NetworkPolicies enforced? Asked at each start by two Pods of ours (SECURITY 14). Called by `cluster`.

Both try to reach the API server, from one node. One stands in a namespace without a policy and has to reach it, before,
all the while and again afterwards; the other stands behind the policy of users' pods and has to fail several times in a
row. So an API server or a network that is slow or away is not taken for a policy: both would fail. Some implementations
need a moment after a Pod's start, so the second one tries on for a while before it counts as let through.

Each try has namespaces of its own: other servers of the installation ask at the same time. What a killed server left
ends by itself; its next start takes it away, another server does when it is old.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import Clock
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import KubeError, KubeUnavailableError
from neuropod.kube.kinds import NAMESPACES, PODS
from neuropod.kube.objects import Object, selector
from neuropod.runtimes.kubernetes import fences, names
from neuropod.runtimes.kubernetes.fences import Fence, Tenant
from neuropod.runtimes.kubernetes.seen import is_ended, state_of
from neuropod.runtimes.kubernetes.shapes import PodShape
from neuropod.runtimes.kubernetes.tenancy import put_up

log = structlog.get_logger(__name__)

_WAIT_SECONDS = 180.0  # for both Pods, their image's pull included
_LOOK_SECONDS = 0.3
_SOON_SECONDS, _RARELY_SECONDS = 10.0, 160.0  # after a canary that told nothing, each time twice as long
_LEFT_SECONDS = 600.0  # so old no canary is that a server still looks at

_POD = "canary"
_LET_THROUGH = 10  # an exit code that neither a shell nor a node has for anything else
_GRACE_SECONDS = 6  # for the try under way and the last one

# `nc` as every one is. A second at least for each try: one that is refused at once is no outage of three tries.
_REACHES = 'echo | nc -w 2 "$1" "$2" >/dev/null 2>&1'
_BEFORE = f"i=0; while [ $i -lt 20 ]; do {_REACHES} && exit 0; i=$((i+1)); sleep 1; done; exit 1"
# Until it is told to end, and once more then. A single failure is nothing; two in a row come before the other's three.
_ALL_THE_WHILE = (
    f"e=; f=0; trap 'e=1' TERM; while :; do a=$e; sleep 1 & if {_REACHES}; then f=0; "
    '[ -n "$a" ] && exit 0; else f=$((f+1)); [ $f -ge 2 ] && exit 1; fi; wait; done'
)
_FENCED = (
    f"r=0; f=0; while [ $r -lt 20 ]; do sleep 1 & if {_REACHES}; then f=0; r=$((r+1)); "
    f"else f=$((f+1)); [ $f -ge 3 ] && exit 0; fi; wait; done; exit {_LET_THROUGH}"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the policies hold, None while that is not known, and the sentence about it."""

    holds: bool | None
    message: str


UNKNOWN = Verdict(None, "Whether NetworkPolicies are enforced is being found out.")


class Canary:
    """The question, and its last answer."""

    def __init__(
        self,
        client: KubeClient,
        installation: InstallationId,
        clock: Clock,
        image: str,
        api: tuple[str, int],
        asker: str = "",
    ) -> None:
        """`asker`: what one server's canaries of one entry of its settings are known by, over its restarts."""
        self._client = client
        self._installation = installation
        self._clock = clock
        self._image = image
        self._api = api
        self._asker = asker
        self._told: tuple[datetime, float] | None = None  # the cluster's time, and ours then
        self.verdict = UNKNOWN

    async def run(self, fence: Fence) -> None:
        """Ask until there is an answer, soon again at first: until then no client may launch."""
        await self._clear(await self._found(lambda one: bool(self._asker) and _asker_of(one) == self._asker))
        wait = _SOON_SECONDS
        while True:
            self.verdict = await self._ask(fence)
            log.info("network policies", hold=self.verdict.holds, told=self.verdict.message)
            await self._sweep()
            if self.verdict.holds is not None:
                break
            await self._clock.sleep(wait)
            wait = min(2 * wait, _RARELY_SECONDS)
        await self._clock.sleep(_LEFT_SECONDS)  # for what was left a moment before our start
        await self._sweep()

    async def _ask(self, fence: Fence) -> Verdict:
        made: dict[str, str] = {}
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                return await self._compare(fence, made)
        except (KubeError, KubeUnavailableError) as error:
            return _not_known(str(error))
        except TimeoutError:
            return _not_known(f"{self._image} did not run in time")
        finally:
            await self._clear(made)

    async def _compare(self, fence: Fence, made: dict[str, str]) -> Verdict:
        """Let both Pods try; note in `made` the namespaces, with their UIDs, as soon as they are there."""
        run = new_id("canary")
        free, fenced = self._tenant(run, "free"), self._tenant(run, "fenced")
        await self._prepare(free, [one for one in _made_of(free, fence) if one["kind"] != "NetworkPolicy"], made)
        await self._client.create(canary_pod(free, self._image, _ALL_THE_WHILE, self._api, before=_BEFORE))
        await self._prepare(fenced, _made_of(fenced, fence), made)
        found = await self._until_it_reaches(free)
        if found is None:
            return _not_known("without one, nothing is reached either")
        await self._client.create(canary_pod(fenced, self._image, _FENCED, self._api, node=found.spec.node_name))
        code = await self._exit_code(fenced)
        if code != 0:
            return verdict_of(code, None)
        found = await self._look(free)
        if found is None or state_of(found).running is None:  # not told by us to end, so it has not seen all of it
            return _not_known("without one, the API server was not reached all the while either")
        # Its node ends it, which keeps the exit code; the grace is for its last try.
        await self._client.merge_patch(PODS, _POD, free.namespace, {"spec": {"activeDeadlineSeconds": 1}})
        return verdict_of(code, await self._exit_code(free))

    def _tenant(self, run: str, which: str) -> Tenant:
        owner = UserId(f"{run}-{which}")
        return Tenant(self._installation, owner, user_hash(f"{self._installation}/{owner}"))

    async def _prepare(self, tenant: Tenant, wanted: list[Object], made: dict[str, str]) -> None:
        namespace = fences.namespace(tenant)
        namespace["metadata"]["labels"][names.CANARY] = "true"
        namespace["metadata"]["annotations"][names.CANARY_OF] = self._asker
        metadata = (await self._client.create(namespace))["metadata"]  # never one that is there
        made[tenant.namespace] = metadata["uid"]
        self._told = datetime.fromisoformat(metadata["creationTimestamp"]), self._clock.monotonic()
        await put_up(self._client, self._clock, wanted)

    async def _until_it_reaches(self, tenant: Tenant) -> PodShape | None:
        """Return the Pod once it runs, so has reached what it should before; None when it never will."""
        while (found := await self._look(tenant)) is not None and not is_ended(found):
            if found.status.phase == "Running":
                return found
            await self._clock.sleep(_LOOK_SECONDS)
        return None

    async def _exit_code(self, tenant: Tenant) -> int | None:
        """Return it once there is one; None when it never will."""
        while (found := await self._look(tenant)) is not None:
            if (terminated := state_of(found).terminated) is not None:
                return terminated.exit_code
            if is_ended(found):
                return None
            await self._clock.sleep(_LOOK_SECONDS)
        return None

    async def _look(self, tenant: Tenant) -> PodShape | None:
        found: PodShape | None = await self._client.get_as(PodShape, PODS, _POD, tenant.namespace)
        return found

    async def _clear(self, made: Mapping[str, str]) -> None:
        for namespace, uid in made.items():
            try:
                await self._client.delete(NAMESPACES, namespace, uid=uid)
            except (KubeError, KubeUnavailableError) as error:
                log.info("a canary's namespace is left", namespace=namespace, error=str(error))

    async def _sweep(self) -> None:
        """Delete what servers left that were killed meanwhile, and nothing that another one looks at now."""
        if self._told is None:
            return
        at, measured = self._told
        now = at + timedelta(seconds=self._clock.monotonic() - measured)  # by the cluster's clock, whatever ours says
        await self._clear(await self._found(lambda one: is_left(one, now)))

    async def _found(self, wanted: Callable[[Mapping[str, Any]], bool]) -> dict[str, str]:
        """Return the canaries' namespaces, with their UIDs, whose metadata are wanted."""
        ours = selector({names.INSTALLATION: self._installation, names.CANARY: None})
        try:
            found = [one["metadata"] for one in await self._client.list(NAMESPACES, labels=ours)]
        except (KubeError, KubeUnavailableError) as error:
            log.info("whether canaries were left is not known", error=str(error))
            return {}
        return {one["name"]: one["uid"] for one in found if wanted(one)}


def _made_of(tenant: Tenant, fence: Fence) -> list[Object]:
    """Return what stands in a canary's namespace, which ends at once when it is deleted."""
    made = fences.fences(tenant, fence)
    for obj in made:
        obj["metadata"].pop("finalizers", None)
    return made


def _asker_of(metadata: Mapping[str, Any]) -> str | None:
    told: Mapping[str, str] = metadata.get("annotations", {})
    return told.get(names.CANARY_OF)


def is_left(metadata: Mapping[str, Any], now: datetime) -> bool:
    """Tell whether nobody looks at a canary's namespace any more, nor deletes it, by its age alone."""
    age = now - datetime.fromisoformat(metadata["creationTimestamp"])
    return "deletionTimestamp" not in metadata and age > timedelta(seconds=_LEFT_SECONDS)


def _not_known(why: str) -> Verdict:
    return Verdict(None, f"Whether NetworkPolicies are enforced is not known: {why}.")


def verdict_of(fenced: int | None, free: int | None) -> Verdict:
    """Return what the two exit codes mean, None being none; that of the free one counts where the other is fenced."""
    if fenced == _LET_THROUGH:
        return Verdict(False, "The cluster does not enforce NetworkPolicies: pods reach each other and the API server.")
    if fenced is None or (fenced == 0 and free is None):
        return _not_known("a canary was deleted")
    if fenced != 0:
        return _not_known(f"a canary ended with exit code {fenced}")
    if free != 0:
        return _not_known("without one, the API server was not reached all the while either")
    return Verdict(
        True, "NetworkPolicies are enforced: a pod is reached by the gateway alone, and reaches the internet."
    )


def canary_pod(
    tenant: Tenant, image: str, script: str, api: tuple[str, int], *, before: str | None = None, node: str | None = None
) -> Object:
    """Return the Pod that asks: `before` has to succeed until it counts as running; on that `node`, if one is given."""
    # Of both together as much as one may have: they stand at the same time.
    asked = {"cpu": "25m", "memory": "16Mi", "ephemeral-storage": "8Mi"}
    limits = {"cpu": "50m", "memory": "32Mi", "ephemeral-storage": "16Mi"}

    def container(name: str, script: str) -> Object:
        return {
            "name": name,
            "image": image,
            "command": ["/bin/sh", "-c", script, "sh", api[0], str(api[1])],
            "resources": {"limits": limits, "requests": asked},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }

    spec: Object = {
        "restartPolicy": "Never",
        "activeDeadlineSeconds": int(_WAIT_SECONDS),  # whatever becomes of who asks
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 65534, "runAsNonRoot": True},
        "containers": [container(names.CONTAINER, script)],
    }
    if before is not None:
        spec["initContainers"] = [container("before", before)]
    if node is not None:
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _on(node)}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": _POD,
            "namespace": tenant.namespace,
            "labels": {names.CANARY: "true", names.USER: tenant.owner_hash},
        },
        "spec": spec,
    }


def _on(node: str) -> Object:
    name = {"key": "metadata.name", "operator": "In", "values": [node]}
    return {"nodeSelectorTerms": [{"matchFields": [name]}]}
