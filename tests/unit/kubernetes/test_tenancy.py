"""From when on a user's quota holds: a played API server, whose admission hears of a new quota later than it is kept."""

import pytest

from neuropod.ids import InstallationId, UserId
from neuropod.kit.clock import SystemClock
from neuropod.kube.client import KubeClient
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.kubernetes.fences import NAME, Fence, Tenant
from neuropod.runtimes.kubernetes.tenancy import Tenancy
from support.clocks import ManualClock
from support.kube import Answer, FakeApi, Request, fake_api, status

TENANT = Tenant(InstallationId("ins_1"), UserId("usr_1"), "abcdefgh")
PODS = f"/api/v1/namespaces/{TENANT.namespace}/pods"
QUOTA = f"/api/v1/namespaces/{TENANT.namespace}/resourcequotas/{NAME}"
LIMITED = Fence(cpu_cores=2, memory_bytes=4 << 30)

LETS_IN = Answer(201, {})
NOT_COUNTED = status(
    403, "Forbidden", f'pods "x" is forbidden: status unknown for quota: {NAME}, resources: limits.cpu'
)
REFUSES = status(403, "Forbidden", f'pods "x" is forbidden: exceeded quota: {NAME}, requested: limits.cpu=3')
DENIES = status(403, "Forbidden", 'admission webhook "saturdays" denied the request: no pods on Saturdays')


class Sleepless(ManualClock):
    """Whoever sleeps has slept."""

    async def sleep(self, seconds: float) -> None:
        await self.advance(seconds)


def answer_pods(api: FakeApi, *answers: Answer) -> list[Request]:
    """Let Pods be answered so, one after the other; the last answer stays. Return what will be asked."""
    asked: list[Request] = []

    def fault(request: Request) -> Answer | None:
        if (request.method, request.path) != ("POST", PODS):
            return None
        asked.append(request)
        return answers[min(len(asked), len(answers)) - 1]

    api.faults.append(fault)
    return asked


@pytest.fixture
async def api(tmp_path):
    async with fake_api(tmp_path) as made:
        yield made


async def prepare(api: FakeApi, fence: Fence) -> None:
    async with KubeClient(api.access(), SystemClock()) as client:
        await Tenancy(client, Sleepless(), lambda: fence).prepare(TENANT)


async def test_a_namespace_is_ready_once_a_pod_beyond_its_quota_is_refused(api: FakeApi):
    """The API server's admission hears of a quota by a watch; until then the first Pods are not counted, for minutes."""
    asked = answer_pods(api, LETS_IN, NOT_COUNTED, LETS_IN, REFUSES)

    await prepare(api, LIMITED)

    assert len(asked) == 4
    assert {request.param("dryRun") for request in asked} == {"All"}
    (container,) = asked[-1].json()["spec"]["containers"]
    assert container["resources"]["limits"]["cpu"] == "3"
    assert container["resources"]["limits"]["memory"] == str((4 << 30) + 1)


async def test_one_that_is_never_refused_is_unavailable(api: FakeApi):
    answer_pods(api, LETS_IN)

    with pytest.raises(RuntimeUnavailableError, match="was not counted yet"):
        await prepare(api, LIMITED)


async def test_where_a_policy_denies_all_pods_the_count_has_to_do(api: FakeApi):
    async def counted_at_the_third_look(request: Request) -> None:
        looks = [one for one in api.requests if (one.method, one.path) == ("PATCH", QUOTA)]
        if len(looks) == 3:
            await api.put(QUOTA, {**api.objects[QUOTA], "status": {"hard": {"limits.cpu": "2"}}})

    api.faults.append(counted_at_the_third_look)
    asked = answer_pods(api, DENIES)

    await prepare(api, LIMITED)

    assert len(asked) == 2


async def test_nothing_is_asked_where_no_pods_are_limited(api: FakeApi):
    asked = answer_pods(api, LETS_IN)

    await prepare(api, Fence())

    assert asked == []
