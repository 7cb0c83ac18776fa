"""A Secret that is written later than its server waited for, when its pod is long forgotten, does not stay."""

from dataclasses import replace
from pathlib import Path

import pytest

from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.identifiers import new_id
from neuropod.kube.client import KubeClient
from neuropod.kube.kubeconfig import from_kubeconfig
from neuropod.runtimes.contract import Phase, Place, Runtime, RuntimeUnavailableError, Workload
from neuropod.runtimes.kubernetes import cluster as opened_cluster
from neuropod.runtimes.kubernetes import names, objects, secrets
from neuropod.words import Reason
from support.cluster_account import account_kubeconfig
from support.cluster_pods import SLEEP, cluster_settings, eventually, opened, shell
from support.cluster_waits import until, until_gone
from support.cluster_wishes import objects_in
from support.faulty_api import Fault, FaultyApi, Request, faulty_api

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened_cluster, "_LOOK_AFTER_SECONDS", 0.5)


def time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be so late that nothing can come any more. Only now: what came before is taken at the next look."""
    monkeypatch.setattr(secrets, "_LATE_SECONDS", 0.0)


def loses_secrets(request: Request) -> Fault:
    """What is to become a Secret is taken and never answered: it may take effect at any time."""
    return Fault.SILENT if request.writes and "/secrets/" in request.target else Fault.NONE


def secrets_of(workload: Workload) -> set[str]:
    found = objects_in(names.namespace_of(workload.owner_hash), "secrets", f"{names.POD}={workload.id.pod}")
    return {one["metadata"]["labels"][names.INCARNATION] for one in found}


async def fails_unsure(api: FaultyApi, runtime: Runtime, workload: Workload) -> None:
    """Ensure it, and hear nothing of its Secret."""
    api.plan = loses_secrets
    with pytest.raises(RuntimeUnavailableError, match="no answer within"):
        await runtime.ensure(workload)
    api.plan = lambda _: Fault.NONE


async def comes_late(workload: Workload) -> None:
    """Let what was written take effect now."""
    async with KubeClient(from_kubeconfig(account_kubeconfig()), SystemClock()) as account:
        await account.apply(objects.env_secret(workload))


async def ends(runtime: Runtime, workload: Workload) -> None:
    await runtime.kill(workload.id, reason=Reason.REQUESTED)
    await until(runtime, workload, Phase.EXITED)
    await runtime.remove(workload.id)
    await until_gone(runtime, workload)


async def test_a_secret_that_comes_when_its_pod_is_forgotten_goes_and_no_others_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    installation = InstallationId(new_id("ins"))
    with faulty_api(account_kubeconfig()) as api:
        settings = cluster_settings(kubeconfig=api.kubeconfig(account_kubeconfig(), tmp_path))
        async with opened(tmp_path / "data", installation, settings) as runtime:
            gone, tried_again = (shell(SLEEP, installation=installation, owner=UserId(new_id("usr"))) for _ in range(2))
            await fails_unsure(api, runtime, tried_again)
            await runtime.ensure(tried_again)
            await fails_unsure(api, runtime, gone)
            await runtime.remove(gone.id, Place(gone.owner_hash, gone.pod_name))
            await runtime.forget(gone.id)
            before = secrets_of(gone)
            await comes_late(gone)
            came = secrets_of(gone)
            time_passes(monkeypatch)
            await eventually(lambda: not secrets_of(gone))  # was unsure later than the other
            await until(runtime, tried_again, Phase.READY)
            stays = secrets_of(tried_again)
            await ends(runtime, tried_again)
            left = secrets_of(tried_again)

    assert (before, came) == (set(), {"1"})
    assert (stays, left) == ({"1"}, set())


async def test_one_that_comes_while_the_next_incarnation_runs_goes_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    installation = InstallationId(new_id("ins"))
    with faulty_api(account_kubeconfig()) as api:
        settings = cluster_settings(kubeconfig=api.kubeconfig(account_kubeconfig(), tmp_path))
        async with opened(tmp_path / "data", installation, settings) as runtime:
            first = shell(SLEEP, installation=installation, owner=UserId(new_id("usr")))
            second = replace(first, id=replace(first.id, incarnation=2))
            other = shell(SLEEP, installation=installation, owner=UserId(new_id("usr")))
            await fails_unsure(api, runtime, first)
            await runtime.ensure(second)
            await until(runtime, second, Phase.READY)
            await comes_late(first)  # over the Secret of the second, which has the same name
            await fails_unsure(api, runtime, other)
            await comes_late(other)
            time_passes(monkeypatch)
            await eventually(lambda: not secrets_of(other))
            during = secrets_of(second)
            await ends(runtime, second)
            await eventually(lambda: not secrets_of(second))
            seen = await runtime.observe(second.id)

    assert during == {"1"}
    assert seen is None
