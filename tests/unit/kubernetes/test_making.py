"""Whose the Secrets of a pod are after an ensure, whoever made its Pod, and what an ensure asks of the API server."""

from dataclasses import replace
from typing import Any

import pytest

from neuropod.ids import InstallationId, PodId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kit.secrets import Secret
from neuropod.kube.client import KubeClient
from neuropod.runtimes.contract import Readiness, RegistryCredential, Resources, Workload, WorkloadId
from neuropod.runtimes.kubernetes import names, objects
from neuropod.runtimes.kubernetes.making import Making
from neuropod.runtimes.kubernetes.objects import Ways
from neuropod.runtimes.kubernetes.watching import ClusterWatch
from neuropod.words import ReadyWhen
from support.kube import FakeApi, fake_api

INSTALLATION = InstallationId("ins_1")
PLAIN = Workload(
    id=WorkloadId(INSTALLATION, PodId("pod_1"), 1),
    pod_name="lab",
    owner=UserId("usr_1"),
    owner_hash="abcdefgh",
    image="example.org/lab:1",
    recipe=None,
    command=None,
    env={},
    resources=Resources(cpu_cores=1, memory_bytes=10**9, container_disk_bytes=10**9),
    volume=None,
    ports=(8888,),
    readiness=Readiness(ReadyWhen.PROCESS),
)
WORKLOAD = replace(
    PLAIN,
    env={"TOKEN": Secret("s3cret-value")},
    pull_credential=RegistryCredential("example.org", "me", Secret("s3cret-word")),
)
NAMESPACE = names.namespace_of(WORKLOAD.owner_hash)
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POD = f"{PODS}/{names.pod_of(WORKLOAD)}"
SECRETS = [
    f"/api/v1/namespaces/{NAMESPACE}/secrets/{name}"
    for name in (names.secret_of(WORKLOAD), names.registry_secret_of(WORKLOAD))
]


class Prepared:
    """A tenancy and claims that have nothing to do."""

    async def prepare(self, tenant: Any) -> None: ...

    async def ensure(self, workload: Workload) -> None: ...


class Cluster:
    def __init__(self, api: FakeApi, client: KubeClient) -> None:
        self.api = api
        clock = SystemClock()
        self.watch = ClusterWatch(client, INSTALLATION, clock)
        self.watch._pods._fresh.set()
        nothing: Any = Prepared()
        self.making = Making(client, self.watch, nothing, nothing, INSTALLATION, Ways(), clock)

    async def stands(self, **status: Any) -> str:
        """Let the Pod be there, made by somebody else; return its UID."""
        made = await self.api.put(POD, {**objects.pod(WORKLOAD, Ways(), claim=None), "status": status})
        return made["metadata"]["uid"]

    def asked(self) -> list[tuple[str, str]]:
        return [(request.method, request.path) for request in self.api.requests]

    def owners(self) -> list[list[str]]:
        """Whose each Secret is: an apply takes away what the same manager set before and does not name again."""
        last = {one.path: one.json()["metadata"] for one in self.api.requests if one.path in SECRETS}
        return [[owner["uid"] for owner in last.get(path, {}).get("ownerReferences", ())] for path in SECRETS]


@pytest.fixture
async def cluster(tmp_path):
    async with fake_api(tmp_path) as api, KubeClient(api.access(), SystemClock()) as client:
        yield Cluster(api, client)


async def test_a_launch_asks_for_no_more_than_its_secrets_the_pod_and_whose_they_are(cluster: Cluster):
    await cluster.making.ensure(WORKLOAD)

    applied = [("PATCH", path) for path in SECRETS]
    assert cluster.asked() == [*applied, ("POST", PODS), *applied]
    assert cluster.owners() == [[cluster.api.objects[POD]["metadata"]["uid"]]] * 2
    (reference,) = cluster.api.objects[SECRETS[0]]["metadata"]["ownerReferences"]
    assert (reference["apiVersion"], reference["kind"], reference["name"]) == ("v1", "Pod", names.pod_of(WORKLOAD))


async def test_who_meets_the_pod_that_another_ensure_made_gives_the_secrets_to_it(cluster: Cluster):
    """The watch has not told of it yet: so the Secrets were written again, without an owner."""
    uid = await cluster.stands()

    await cluster.making.ensure(WORKLOAD)

    assert cluster.owners() == [[uid], [uid]]


async def test_an_ensure_that_finds_its_pod_there_gives_it_what_one_that_was_cut_off_did_not(cluster: Cluster):
    uid = await cluster.stands()
    cluster.watch._pods._fresh.clear()

    await cluster.making.ensure(WORKLOAD)

    assert cluster.owners() == [[uid], [uid]]
    assert cluster.asked() == [("GET", POD), *(("PATCH", path) for path in SECRETS)]


async def test_of_a_pod_that_has_ended_nothing_is_written_again(cluster: Cluster):
    await cluster.stands(phase="Failed")
    cluster.watch._pods._fresh.clear()

    await cluster.making.ensure(WORKLOAD)

    assert cluster.asked() == [("GET", POD)]


async def test_a_pod_without_secrets_is_looked_at_alone(cluster: Cluster):
    await cluster.stands()
    cluster.watch._pods._fresh.clear()

    await cluster.making.ensure(PLAIN)

    assert cluster.asked() == [("GET", POD)]
