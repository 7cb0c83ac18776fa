"""Why a pod does not run, or ended: each reason provoked on a real cluster, and told in words that help."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuropod.ids import InstallationId, UserId, VolumeId
from neuropod.kit.identifiers import new_id, user_hash
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import NODES, VALIDATING_ADMISSION_POLICIES, VALIDATING_ADMISSION_POLICY_BINDINGS
from neuropod.runtimes.contract import (
    Phase,
    RuntimeUnavailableError,
    VolumeMount,
    Workload,
    WorkloadRejectedError,
)
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.words import Reason
from support.cluster_orders import needs_throwaway, order
from support.cluster_pods import BUSYBOX, SLEEP, cluster_settings, on, opened, shell
from support.cluster_waits import until, until_reason, until_unavailable


@pytest.fixture
async def runtime(tmp_path: Path, installation: InstallationId) -> AsyncIterator[KubernetesRuntime]:
    async with opened(tmp_path, installation) as runtime:
        yield runtime


@pytest.fixture
def owner() -> UserId:
    return UserId(new_id("usr"))


def sleeper(installation: InstallationId, owner: UserId, **changes: Any) -> Workload:
    return shell(SLEEP, installation=installation, owner=owner, **changes)


class TestNotYet:
    async def test_no_node_has_room_and_it_says_what_is_short_and_how_much_is_free(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ):
        workload = on(sleeper(installation, owner), cpu_cores=1000)  # 50 cores of a node, as these are overcommitted

        await runtime.ensure(workload)
        seen = await until_reason(runtime, workload, Reason.UNSCHEDULABLE)
        await runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
        over = await until(runtime, workload, Phase.EXITED, seconds=5)

        assert seen.phase is Phase.PENDING
        assert seen.message.startswith("it needs 50 CPU cores, and no node has more than ")
        assert (over.reason, over.started_at, over.exit_code) == (Reason.REQUESTED, None, None)

    async def test_an_image_that_is_not_there(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ):
        open_registry, _, _ = (await asyncio.to_thread(order, "registry")).split()
        image = f"{open_registry}/nowhere:1"
        workload = sleeper(installation, owner, image=image)

        await runtime.ensure(workload)
        seen = await until_reason(runtime, workload, Reason.IMAGE_NOT_FOUND)
        await runtime.stop(workload.id, grace_seconds=30, reason=seen.reason)  # as the loop does
        over = await until(runtime, workload, Phase.EXITED)

        assert image in seen.message
        assert "not found" in seen.message
        assert (over.reason, over.message) == (Reason.IMAGE_NOT_FOUND, seen.message)

    async def test_a_registry_that_refuses(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ):
        _, private, _ = (await asyncio.to_thread(order, "registry")).split()
        workload = sleeper(installation, owner, image=f"{private}/busybox:1")

        await runtime.ensure(workload)
        seen = await until_reason(runtime, workload, Reason.PULL_DENIED)

        assert seen.phase is Phase.PENDING
        assert f"{private}/busybox:1" in seen.message

    async def test_a_pull_says_how_long_it_has_been_going_on(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ):
        _, _, slow = (await asyncio.to_thread(order, "registry")).split()
        name = f"slow-{new_id('x')[2:]}"
        await asyncio.to_thread(order, "push", name, "40")  # 20 seconds
        workload = replace(sleeper(installation, owner, image=f"{slow}/{name}:1"), command=None)

        await runtime.ensure(workload)
        first = await until_reason(runtime, workload, Reason.PULLING)
        assert first.progress is not None
        async with asyncio.timeout(20):
            while True:
                second = await until_reason(runtime, workload, Reason.PULLING)
                if second.progress is not None and second.progress.done > first.progress.done:
                    break
                await asyncio.sleep(0.1)

        assert f"{slow}/{name}:1, for " in first.message
        assert second.message != first.message

    async def test_a_volume_that_is_never_bound_says_why(
        self, tmp_path: Path, installation: InstallationId, owner: UserId
    ):
        async with opened(tmp_path, installation, cluster_settings(storage_class="nobody")) as runtime:
            volume = VolumeMount(VolumeId(new_id("vol")), "data", 64 << 20)
            workload = replace(sleeper(installation, owner), volume=volume)

            await runtime.ensure(workload)
            seen = await until_reason(runtime, workload, Reason.VOLUME_WAITS)

        assert seen.phase is Phase.PENDING
        assert seen.message

    async def test_a_class_that_is_not_there_is_said_at_once(
        self, tmp_path: Path, installation: InstallationId, owner: UserId
    ):
        async with opened(tmp_path, installation, cluster_settings(storage_class="golden")) as runtime:
            volume = VolumeMount(VolumeId(new_id("vol")), "data", 64 << 20)

            with pytest.raises(WorkloadRejectedError, match="no StorageClass 'golden'"):
                await runtime.ensure(replace(sleeper(installation, owner), volume=volume))


class TestRefused:
    async def test_more_than_the_quota(self, tmp_path: Path, installation: InstallationId, owner: UserId):
        async with opened(tmp_path, installation, cluster_settings(user_cpu_cores=1)) as runtime:
            first, second = sleeper(installation, owner), sleeper(installation, owner)
            await runtime.ensure(first)

            with pytest.raises(WorkloadRejectedError) as refused:
                await runtime.ensure(second)
            looked = await runtime.observe(second.id)

        assert refused.value.reason is Reason.QUOTA
        assert "limits.cpu" in str(refused.value)
        assert looked is None

    async def test_the_quotas_of_many_new_users_hold_from_their_first_pods_on(
        self, tmp_path: Path, installation: InstallationId
    ):
        async def made(runtime: KubernetesRuntime, workload: Workload) -> None:
            """As the loop does: a cluster that is too busy is asked again."""
            async with asyncio.timeout(120):
                while True:
                    try:
                        return await runtime.ensure(workload)
                    except RuntimeUnavailableError:
                        await asyncio.sleep(0.5)

        async def second_pod(runtime: KubernetesRuntime) -> Reason:
            owner = UserId(new_id("usr"))
            await made(runtime, sleeper(installation, owner))
            with pytest.raises(WorkloadRejectedError) as refused:
                await made(runtime, sleeper(installation, owner))
            return refused.value.reason

        told = []
        async with opened(tmp_path, installation, cluster_settings(user_cpu_cores=1)) as runtime:
            with busy(4):
                for _ in range(3):
                    told += await asyncio.gather(*(second_pod(runtime) for _ in range(12)))

        assert set(told) == {Reason.QUOTA}

    async def test_what_an_administrators_policy_denies(
        self, runtime: KubernetesRuntime, admin: KubeClient, installation: InstallationId, owner: UserId
    ):
        namespace = f"neuropod-{user_hash(owner)}"
        async with denied(admin, namespace, "no pods on Saturdays"):
            refused = await self._until_refused(runtime, installation, owner)

        assert refused.reason is Reason.REJECTED
        assert "no pods on Saturdays" in str(refused)

    async def _until_refused(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ) -> WorkloadRejectedError:
        """Ask until the policy is in force."""
        async with asyncio.timeout(60):
            while True:
                workload = sleeper(installation, owner)
                try:
                    await runtime.ensure(workload)
                except WorkloadRejectedError as error:
                    return error
                await runtime.kill(workload.id, reason=Reason.REQUESTED)


class TestEnd:
    async def test_a_crash_tells_its_code_and_its_last_lines(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ):
        workload = shell("echo begins; echo no such model: llama; exit 3", installation=installation, owner=owner)

        await runtime.ensure(workload)
        seen = await until(runtime, workload, Phase.EXITED)

        assert (seen.reason, seen.exit_code) == (Reason.CRASHED, 3)
        assert seen.message.endswith("no such model: llama")

    async def test_a_command_that_is_not_there_is_no_crash_to_repeat(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ):
        workload = replace(sleeper(installation, owner), command=("no-such-program",))

        await runtime.ensure(workload)
        seen = await until(runtime, workload, Phase.EXITED)

        assert (seen.reason, seen.started_at) == (Reason.REJECTED, None)
        assert "no-such-program" in seen.message

    async def test_one_that_takes_more_memory_than_it_has(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ):
        workload = shell("exec tail /dev/zero", installation=installation, owner=owner)

        await runtime.ensure(workload)
        seen = await until(runtime, workload, Phase.EXITED)

        assert (seen.reason, seen.exit_code) == (Reason.OUT_OF_MEMORY, 137)
        assert seen.finished_at is not None

    async def test_one_that_writes_more_than_its_disk_holds(
        self, runtime: KubernetesRuntime, installation: InstallationId, owner: UserId
    ):
        script = "dd if=/dev/zero of=/big bs=1M count=40; exec sleep 3600"
        workload = on(shell(script, installation=installation, owner=owner), container_disk_bytes=16 << 20)

        await runtime.ensure(workload)
        seen = await until(runtime, workload, Phase.EXITED, seconds=110)

        assert seen.reason is Reason.DISK_FULL
        assert "ephemeral" in seen.message


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """Let the machine be busy, so that the API server learns late of what was made."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


@asynccontextmanager
async def denied(admin: KubeClient, namespace: str, sentence: str) -> AsyncIterator[None]:
    """Let an administrator's policy deny Pods in a namespace."""
    name = f"test-{namespace}"
    api = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [{"name": "there", "expression": f"request.namespace == '{namespace}'"}],
            "validations": [{"expression": "false", "message": sentence}],
        },
    }
    binding = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    await admin.apply(policy)
    await admin.apply(binding)
    try:
        yield
    finally:
        await admin.delete(VALIDATING_ADMISSION_POLICY_BINDINGS, name)
        await admin.delete(VALIDATING_ADMISSION_POLICIES, name)


@needs_throwaway
class TestNodeLost:
    """DESIGN §3: on a node that gives no answer nothing is known, and nothing done; once it is fenced, its pods ended."""

    async def test_nothing_is_known_of_its_pods_until_it_is_deleted_and_then_they_are_lost(
        self, tmp_path: Path, admin: KubeClient, installation: InstallationId, owner: UserId
    ):
        await asyncio.to_thread(order, "start", "node-2")
        async with opened(tmp_path, installation) as runtime:
            workload = on(
                sleeper(installation, owner, image=BUSYBOX), node_selector={"kubernetes.io/hostname": "node-2"}
            )
            await runtime.ensure(workload)
            running = await until(runtime, workload, Phase.READY)
            await asyncio.to_thread(order, "cut", "node-2")
            try:
                said = await until_unavailable(runtime, workload)
                listed = await runtime.list_seen()
                await admin.delete(NODES, "node-2")
                lost = await until(runtime, workload, Phase.EXITED)
                await runtime.remove(workload.id)
                left = await runtime.observe(workload.id)
            finally:
                await asyncio.to_thread(order, "join", "node-2")
                await asyncio.to_thread(order, "restart", "node-2")

        assert "node node-2 gives no answer since " in said
        assert listed == []
        assert (lost.reason, lost.identity, lost.exit_code) == (Reason.NODE_LOST, running.identity, None)
        assert lost.finished_at is not None
        assert left is None
