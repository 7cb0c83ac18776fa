"""The gate's memory, and who passes to what."""

import asyncio

import pytest

from neuropod.accounts.visitors import Visitor
from neuropod.gateway.gate import Credential, DoorkeeperUnavailableError, Gate, Known
from neuropod.words import Access, Role
from support.clocks import ManualClock
from support.gateway import OWNER, Recorder, serving

KEY = Credential(key="k")
SOMEBODY = Visitor("usr_1", Role.CLIENT)


class _Doorkeeper:
    def __init__(self):
        self.known = Known(SOMEBODY, None)
        self.away = False
        self.asked = 0

    async def identify(self, credential):
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise DoorkeeperUnavailableError
        return self.known


@pytest.fixture
def doorkeeper():
    return _Doorkeeper()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def gate(doorkeeper, clock):
    return Gate(doorkeeper, clock, remember_seconds=5)


async def test_an_answer_is_remembered_for_five_seconds(gate, doorkeeper, clock):
    assert gate.remembered(KEY) is None
    assert await gate.visitor(KEY) == SOMEBODY

    await clock.advance(4.9)
    assert gate.remembered(KEY) == SOMEBODY
    await clock.advance(0.1)
    assert gate.remembered(KEY) is None


async def test_a_refusal_is_not_remembered(gate, doorkeeper):
    doorkeeper.known = None
    assert await gate.visitor(KEY) is None
    doorkeeper.known = Known(SOMEBODY, None)

    assert await gate.visitor(KEY) == SOMEBODY


async def test_many_who_ask_at_once_are_one_question(gate, doorkeeper):
    assert await asyncio.gather(*(gate.visitor(KEY) for _ in range(50))) == [SOMEBODY] * 50

    assert doorkeeper.asked == 1


async def test_doubt_asks_again(gate, doorkeeper):
    await gate.visitor(KEY)

    gate.doubt()

    assert gate.remembered(KEY) is None


async def _asking(gate, doorkeeper):
    """Return somebody's question, once the doorkeeper was asked."""
    asking = asyncio.create_task(gate.visitor(KEY))
    while not doorkeeper.asked:
        await asyncio.sleep(0)
    return asking


async def test_a_question_from_before_a_doubt_answers_nobody_who_comes_after_it(gate, doorkeeper):
    before = await _asking(gate, doorkeeper)

    gate.doubt()
    after = await gate.visitor(KEY)

    assert (await before, after, doorkeeper.asked) == (SOMEBODY, SOMEBODY, 2)


async def test_an_answer_from_before_a_doubt_is_not_remembered(gate, doorkeeper):
    before = await _asking(gate, doorkeeper)

    gate.doubt()

    assert await before == SOMEBODY
    assert gate.remembered(KEY) is None


async def test_while_the_doorkeeper_is_away_known_visitors_go_on_and_nobody_new_gets_in(gate, doorkeeper, clock):
    await gate.visitor(KEY)
    doorkeeper.away = True
    await clock.advance(3600)

    assert await gate.visitor(KEY) == SOMEBODY
    with pytest.raises(DoorkeeperUnavailableError):
        await gate.visitor(Credential(key="new"))


async def test_a_revoked_visitor_is_forgotten_for_good(gate, doorkeeper, clock):
    await gate.visitor(KEY)
    doorkeeper.known = None
    await clock.advance(5)
    assert await gate.visitor(KEY) is None

    doorkeeper.away = True

    with pytest.raises(DoorkeeperUnavailableError):
        await gate.visitor(KEY)


async def test_a_pass_ends_by_itself_also_while_the_doorkeeper_is_away(gate, doorkeeper, clock):
    doorkeeper.known = Known(SOMEBODY, clock.now().replace(second=2))
    assert await gate.visitor(KEY) == SOMEBODY
    await clock.advance(3)
    doorkeeper.away = True

    assert gate.remembered(KEY) is None
    assert await gate.visitor(KEY) is None


@pytest.mark.parametrize(
    ("access", "user_id", "role", "status"),
    [
        (Access.PRIVATE, OWNER, Role.CLIENT, 200),
        (Access.PRIVATE, "usr_other", Role.CLIENT, 403),
        (Access.PRIVATE, "usr_other", Role.ADMIN, 200),
        (Access.MEMBERS, "usr_other", Role.CLIENT, 200),
        (Access.PUBLIC, "usr_other", Role.CLIENT, 200),
        (Access.PRIVATE, None, None, 401),
        (Access.MEMBERS, None, None, 401),
        (Access.PUBLIC, None, None, 200),
    ],
)
async def test_who_passes_to_which_port(access, user_id, role, status):
    async with serving() as served:
        route = await served.pod(Recorder(), access=access)
        key = None if user_id is None else served.key(user_id=user_id, role=role)

        answer = await served.ask(route, key=key)

        assert answer.status == status


async def test_an_unknown_key_is_a_401_and_no_redirect_even_for_browsers():
    async with serving() as served:
        route = await served.pod(Recorder())

        answer = await served.ask(route, "GET / HTTP/1.1", "Accept: text/html", key="unknown")

        assert answer.status == 401
        assert answer["www-authenticate"] == 'Neuropod realm="ports"'


async def test_keys_and_passes_never_reach_the_pod_on_public_ports_either():
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod, access=Access.PUBLIC)
        cookie = served.signed_in(route)

        answer = await served.ask(route, "GET / HTTP/1.1", f"Cookie: own=1; {cookie}", key=served.key())

        assert answer.status == 200
        assert pod.sent("x-neuropod-key") == []
        assert pod.sent("cookie") == ["own=1"]


async def test_a_pass_for_one_host_opens_no_other():
    async with serving() as served:
        one = await served.pod(Recorder(), "one")
        two = await served.pod(Recorder(), "two")
        cookie = served.signed_in(one)
        own = "Sec-Fetch-Site: none"

        assert (await served.ask(one, "GET / HTTP/1.1", f"Cookie: {cookie}", own, key=None)).status == 200
        assert (await served.ask(two, "GET / HTTP/1.1", f"Cookie: {cookie}", own, key=None)).status == 401


async def test_an_ended_pass_opens_nothing():
    async with serving() as served:
        route = await served.pod(Recorder())
        cookie = served.signed_in(route, seconds=-1)

        assert (
            await served.ask(route, "GET / HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: none", key=None)
        ).status == 401
