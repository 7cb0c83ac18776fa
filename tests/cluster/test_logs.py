"""Logs, exit codes and times outlive the Pod, whoever ended it; what nobody could read is said to be lost."""

import asyncio
from pathlib import Path

import pytest

from neuropod.ids import InstallationId, UserId
from neuropod.kit.identifiers import new_id
from neuropod.kube.client import KubeClient
from neuropod.kube.kinds import PODS, SECRETS
from neuropod.runtimes.contract import LogQuery, Phase, Workload
from neuropod.runtimes.kubernetes import names
from neuropod.runtimes.kubernetes.runtime import KubernetesRuntime
from neuropod.words import Reason
from support.cluster_pods import PORT, SERVE, opened, shell
from support.cluster_waits import text_of, until, until_gone

# Says something at its start, and at its end by SIGTERM: a second later, so that who follows it hears of the deletion
# before its node drops the log.
POLITE = 'trap "sleep 1; echo goodbye; exit 7" TERM; echo hello; sleep 3600 & wait'


def workload_of(installation: InstallationId, script: str, port: int | None = None) -> Workload:
    return shell(script, installation=installation, owner=UserId(new_id("usr")), port=port)


def place(workload: Workload) -> tuple[str, str]:
    return names.pod_of(workload), names.namespace_of(workload.owner_hash)


async def until_hello(runtime: KubernetesRuntime, workload: Workload) -> None:
    """Wait until it has said it: that its process runs only precedes it, and its trap."""
    async with asyncio.timeout(30):
        while await text_of(runtime, workload) != ["hello"]:
            await asyncio.sleep(0.1)


async def test_a_deletion_by_somebody_else_is_followed_to_its_end(
    tmp_path: Path, installation: InstallationId, admin: KubeClient
):
    async with opened(tmp_path, installation) as runtime:
        workload = workload_of(installation, POLITE)
        await runtime.ensure(workload)
        before = await until(runtime, workload, Phase.READY)
        await until_hello(runtime, workload)

        await admin.delete(PODS, *place(workload))
        seen = await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)

        assert (seen.reason, seen.exit_code, seen.identity) == (Reason.DELETED_OUTSIDE, 7, before.identity)
        assert seen.started_at == before.started_at
        assert seen.finished_at is not None
        assert await text_of(runtime, workload) == ["hello", "goodbye"]


async def test_a_deletion_while_no_server_runs_keeps_the_end_and_says_that_the_log_is_lost(
    tmp_path: Path, installation: InstallationId, admin: KubeClient
):
    workload = workload_of(installation, POLITE)
    async with opened(tmp_path, installation, keep=True) as runtime:
        await runtime.ensure(workload)
        before = await until(runtime, workload, Phase.READY)
        await until_hello(runtime, workload)

    name, namespace = place(workload)
    await admin.delete(PODS, name, namespace)
    async with asyncio.timeout(60):
        while (await admin.get(PODS, name, namespace) or {})["status"]["phase"] != "Failed":
            await asyncio.sleep(0.2)

    async with opened(tmp_path, installation) as runtime:
        seen = await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)
        lines = await text_of(runtime, workload)

    assert (seen.reason, seen.exit_code, seen.started_at) == (Reason.DELETED_OUTSIDE, 7, before.started_at)
    assert lines == ["hello", "goodbye"] or "the log is lost" in lines[0]


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        (f'trap "" TERM; echo deaf; {SERVE}', "kill"),
        (f"echo hello; {SERVE}", "stop"),
        ("echo hungry; exec tail /dev/zero", "itself"),
    ],
)
async def test_the_log_is_kept_after(tmp_path: Path, installation: InstallationId, script: str, ending: str):
    async with opened(tmp_path, installation) as runtime:
        workload = workload_of(installation, script, port=None if ending == "itself" else PORT)
        await runtime.ensure(workload)
        if ending != "itself":
            await until(runtime, workload, Phase.READY)
        if ending == "kill":
            await runtime.kill(workload.id, reason=Reason.REQUESTED)
        elif ending == "stop":
            await runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
        seen = await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)
        lines = await text_of(runtime, workload)

    assert lines == [script.partition("echo ")[2].partition(";")[0]]
    assert seen.exit_code == {"kill": 137, "stop": 143, "itself": 137}[ending]
    assert seen.finished_at is not None


async def test_a_pod_that_ends_forgets_who_set_its_fields(
    tmp_path: Path, installation: InstallationId, admin: KubeClient
):
    """So that whatever is still written of it costs the API server less."""
    async with opened(tmp_path, installation) as runtime:
        workload = workload_of(installation, POLITE)
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.READY)
        before = await admin.get(PODS, *place(workload))
        await runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
        await until(runtime, workload, Phase.EXITED)
        after = await admin.get(PODS, *place(workload))
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)

    assert before is not None
    assert after is not None
    assert "managedFields" in before["metadata"]
    assert "managedFields" not in after["metadata"]


async def test_a_follower_reads_on_from_the_kept_log_when_the_pod_is_removed_under_it(
    tmp_path: Path, installation: InstallationId
):
    async with opened(tmp_path, installation) as runtime:
        workload = workload_of(
            installation, 'i=0; while [ $i -lt 20 ]; do echo "line $i"; sleep 0.05; i=$((i+1)); done'
        )
        await runtime.ensure(workload)
        await until(runtime, workload, Phase.READY, Phase.EXITED)

        async def follow() -> list[str]:
            return [line.text async for line in runtime.logs(workload.id, LogQuery(follow=True))]

        following = asyncio.create_task(follow())
        await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        lines = await asyncio.wait_for(following, 60)

    assert lines == [f"line {number}" for number in range(20)]


async def test_what_a_pod_read_goes_with_it(tmp_path: Path, installation: InstallationId, admin: KubeClient):
    async with opened(tmp_path, installation) as runtime:
        workload = workload_of(installation, "exit 0")
        secret = names.secret_of(workload), names.namespace_of(workload.owner_hash)
        await runtime.ensure(workload)
        made = await admin.get(SECRETS, *secret)
        await until(runtime, workload, Phase.EXITED)
        await runtime.remove(workload.id)
        await until_gone(runtime, workload)
        left = await admin.get(SECRETS, *secret)

    assert made is not None
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Pod"
    assert left is None
