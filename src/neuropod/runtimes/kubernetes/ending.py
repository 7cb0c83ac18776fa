"""Stop, kill, remove: how workloads end without losing how they ended. Called by `runtime`.

Each verb looks first and then writes for the very object that it saw (UID), so one that comes late hits nothing. Stop
lets the node end it (`activeDeadlineSeconds`), which keeps the grace, and the object with exit code, times, log. Kill
sends SIGKILL from inside, which keeps them too; where that is not possible or did not do, it deletes the Pod, which is
SIGTERM and a second of grace, and our finalizer keeps the object until `remove` has read it.
"""

import msgspec

from neuropod.kit.clock import Clock
from neuropod.kube.client import KubeClient
from neuropod.kube.errors import ConflictError, NotFoundError
from neuropod.kube.informer import Key
from neuropod.kube.kinds import PODS
from neuropod.kube.objects import Object
from neuropod.runtimes.contract import Place, RuntimeUnavailableError, Seen, WorkloadId
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.asking import asking
from neuropod.runtimes.kubernetes.execs import Execs
from neuropod.runtimes.kubernetes.logs import ClusterLogs
from neuropod.runtimes.kubernetes.secrets import drop_secrets, drop_secrets_of_place
from neuropod.runtimes.kubernetes.seen import is_ended, ready, state_of, stopping, written
from neuropod.runtimes.kubernetes.shapes import PodShape
from neuropod.runtimes.kubernetes.standing import Standing
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from neuropod.words import Reason

_TRIES = 5
# Who set which field of it interests nobody any more, and to keep account of that is a quarter to a half of what each
# later write of the Pod, ours or the node's, costs the API server
# (https://kubernetes.io/docs/reference/using-api/server-side-apply/#clearing-managedfields).
_UNTRACKED: Object = {"managedFields": [{}]}


class Ending:
    """Ends workloads on one cluster."""

    def __init__(
        self,
        client: KubeClient,
        watch: ClusterWatch,
        standing: Standing,
        logs: ClusterLogs,
        execs: Execs,
        clock: Clock,
    ) -> None:
        self._client = client
        self._watch = watch
        self._standing = standing
        self._logs = logs
        self._execs = execs
        self._clock = clock

    async def stop(self, workload_id: WorkloadId, reason: Reason) -> None:
        """See the contract."""
        for tries in range(_TRIES):
            pod = await self._standing.look_exact(workload_id, live=tries > 0)
            if pod is None or is_ended(pod):
                return
            if stopping(pod) is not None and pod.spec.node_name:
                return
            # What explains that it never ran is gone with its end.
            told = None if state_of(pod).running is not None else await self._standing.tell(pod)
            try:
                with asking():
                    await self._mark(pod, reason, {"activeDeadlineSeconds": 1}, told)
                    if not pod.spec.node_name:
                        # No node acts on it; and being deleted it gets none any more.
                        await self._delete(pod)
            except _ChangedError:
                continue
            return
        raise RuntimeUnavailableError("the Pod changes faster than it can be stopped")

    async def kill(self, workload_id: WorkloadId, reason: Reason) -> None:
        """See the contract. On a node that gives no answer: RuntimeUnavailableError, until it is fenced (DESIGN §3)."""
        for _ in range(_TRIES):
            pod = await self._standing.find_exact(workload_id)
            if pod is None or await self._standing.is_over(pod):
                return
            if pod.metadata.deletion_timestamp is not None and pod.metadata.deletion_grace_period_seconds == 0:
                return
            runs, tried = state_of(pod).running is not None, names.KILLED_AT in pod.metadata.annotations
            try:
                with asking():
                    if not tried:
                        await self._mark(pod, reason, None, None, killed=True)
                    if runs and not tried and await self._execs.kill_all(pod):
                        return
                    if runs:
                        await self._logs.follow_to_the_end(pod)  # its node keeps no log of what is deleted
                    await self._delete(pod)
            except _ChangedError:
                continue
            return
        raise RuntimeUnavailableError("the Pod changes faster than it can be killed")

    async def _mark(
        self, pod: PodShape, reason: Reason, spec: Object | None, told: Seen | None, *, killed: bool = False
    ) -> None:
        """Write down why it ends and since when, and what would be lost with the end, in one write."""
        now = written(self._clock.now())
        annotations = {names.KILLED_AT: now} if killed else {}
        if names.STOP_REASON not in pod.metadata.annotations:  # the first to say why is believed
            annotations |= {names.STOP_REASON: reason.value, names.STOPPING_AT: now}
        if told is not None and told.reason is reason and told.message:
            annotations[names.STOP_MESSAGE] = told.message
        ready_at = ready(pod)
        if ready_at is not None and names.READY_AT not in pod.metadata.annotations:
            annotations[names.READY_AT] = written(ready_at)
        await self._patch(pod, {"annotations": annotations}, spec)

    async def _patch(self, pod: PodShape, metadata: Object, spec: Object | None = None) -> PodShape:
        """Change this very version of it. Raises _ChangedError."""
        patch: Object = {"metadata": {**_version(pod), **_UNTRACKED, **metadata}}
        if spec is not None:
            patch["spec"] = spec
        try:
            made = await self._client.merge_patch(PODS, pod.metadata.name, pod.metadata.namespace, patch)
        except (ConflictError, NotFoundError) as error:
            raise _ChangedError from error
        patched = msgspec.convert(made, PodShape)
        self._watch.answered(_place(pod), patched)
        return patched

    async def _delete(self, pod: PodShape) -> None:
        try:
            await self._client.delete(
                PODS, pod.metadata.name, pod.metadata.namespace, uid=pod.metadata.uid, grace_seconds=0
            )
        except ConflictError as error:
            raise _ChangedError from error
        self._watch.deleted(_place(pod), pod)

    async def remove(self, workload_id: WorkloadId, place: Place | None) -> None:
        """See the contract."""
        for tries in range(_TRIES):
            pod = await self._standing.look_exact(workload_id, live=tries > 0)
            if pod is None and place is not None:
                with asking():
                    await drop_secrets_of_place(self._client, place, workload_id)
            if pod is None or not await self._standing.is_over(pod):
                return
            await self._logs.record(pod)
            try:
                with asking():
                    await drop_secrets(self._client, pod.metadata.namespace, pod.secrets, workload_id)
                    if names.FINALIZER in pod.metadata.finalizers:
                        others = [one for one in pod.metadata.finalizers if one != names.FINALIZER]
                        pod = await self._patch(pod, {"finalizers": others})
                    if pod.metadata.deletion_timestamp is None or not is_ended(pod):
                        await self._delete(pod)
                    else:
                        self._watch.answered(_place(pod), None)
            except _ChangedError:
                continue
            return
        raise RuntimeUnavailableError("the Pod changes faster than it can be removed")


class _ChangedError(Exception):
    """The object is not the one that was looked at any more: look again."""


def _place(pod: PodShape) -> Key:
    return pod.metadata.namespace, pod.metadata.name


def _version(pod: PodShape) -> Object:
    return {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version}
