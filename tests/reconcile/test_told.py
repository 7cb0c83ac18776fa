"""A client keeps its list of pods right by the list and the events alone: random acts, then both are compared."""

import asyncio
import json
import random
from typing import Any

import pytest

from neuropod.api.answers import pod_answer
from neuropod.api.feeding.feed import EventFeed
from neuropod.api.feeding.followers import Follower, Selection
from neuropod.db.engine import Database
from neuropod.kit.clock import SystemClock
from neuropod.kit.errors import ConflictError
from neuropod.pods.launch import PortRequest
from neuropod.pods.news import NewsReader
from neuropod.pods.views import PodFilters
from neuropod.runtimes.contract import RuntimeUnavailableError
from neuropod.runtimes.fake.world import Script
from neuropod.words import Reason
from reconcile.plant import Plant, Server

SCRIPTS = (
    Script(), Script(prepare_seconds=3, ready_seconds=2), Script(ready_seconds=None), Script(exit_seconds=4),
    Script(exit_seconds=3, exit_code=1), Script(reject="no such image"),
)  # fmt: skip


class Console:
    """A client: the list as it was when the stream began, and what was told since."""

    def __init__(self, plant: Plant, server: Server) -> None:
        self._plant, self._server = plant, server
        self._addresses = plant.settings.addresses(8080)
        self.news = NewsReader(plant.database, server.pods, SystemClock())
        self.feed = EventFeed(
            self.news,
            plant.accounts,
            server.pods,
            self._addresses,
            plant.settings.events,
            SystemClock(),
        )
        self._follower: Follower | None = None
        self.shown: dict[str, Any] = {}

    async def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def everybody_may(*_: object) -> list[Follower]:
            return []  # rights are tested with the API; here nobody has a session

        monkeypatch.setattr(self.feed, "_without_right", everybody_may)
        actor = self._plant.actor
        self._follower = Follower(Selection(actor.user_id), _with_session(actor))
        await self.feed.join(self._follower, None)
        self.shown = await self.listed()

    async def listed(self) -> dict[str, Any]:
        async with self._plant.database.read() as session:
            page = await self._server.pods.list_pods(session, actor=self._plant.actor, filters=PodFilters(), limit=200)
        return {view.id: _plain(pod_answer(view, self._addresses).model_dump(mode="json")) for view in page.items}

    async def hear(self) -> None:
        assert self._follower is not None
        while await self.news.look():
            pass
        await self.feed.look()
        for frame in await self._follower.take(0.01):
            fields = dict(line.split(": ", 1) for line in frame.data.decode().strip().split("\n"))
            data = json.loads(fields["data"])
            pod_id, pod = (data["id"], data) if fields.get("event") == "pod" else (data["pod_id"], data["pod"])
            if pod is None:
                self.shown.pop(pod_id, None)
            elif pod_id is not None:
                self.shown[pod_id] = _plain(pod)


def _with_session(actor: Any) -> Any:
    return type(actor)(actor.user_id, actor.role, actor.scopes, actor.via, session_id="ses_one")


def _plain(pod: dict[str, Any]) -> dict[str, Any]:
    """Without what moves with the clock alone: how many seconds until the next try, and idleness."""
    message = "It crashed and starts again." if pod["reason"] == Reason.CRASH_LOOP else pod["message"]
    return pod | {"message": message, "idle": None}


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_list_folded_with_the_events_is_a_fresh_list(
    database: Database, monkeypatch: pytest.MonkeyPatch, seed: int
):
    chance = random.Random(seed)
    plant = Plant(database)
    await plant.set_up()
    server = Server(plant)
    await plant.launch(server, "before")
    console = Console(plant, server)
    await console.begin(monkeypatch)
    names = ["before"]

    for step in range(30):
        await _act(plant, server, chance, names, step)
        await server.turn()
        await console.hear()
        if chance.random() < 0.3:
            assert console.shown == await console.listed(), f"seed {seed}, step {step}"
    plant.world.before = None
    await plant.clock.advance(120)
    await server.turn()
    await server.resync.turn()
    await server.turn()
    await console.hear()

    assert console.shown == await console.listed()
    await server.aclose()


async def _away(verb: str) -> None:
    raise RuntimeUnavailableError(f"no {verb} now")


async def _act(plant: Plant, server: Server, chance: random.Random, names: list[str], step: int) -> None:
    pods = server.pods
    name = chance.choice(names)
    try:
        match chance.randrange(9):
            case 0 | 1:
                plant.world.scripts[f"pod{step}"] = chance.choice(SCRIPTS)
                await plant.launch(server, f"pod{step}")
                names.append(f"pod{step}")
            case 2:
                await plant.ask(pods.stop_pod, name)
            case 3:
                await plant.ask(pods.start_pod, name)
            case 4:
                await plant.ask(pods.restart_pod, name)
            case 5 if len(names) > 1:
                names.remove(name)
                await plant.ask(pods.delete_pod, name)
            case 6:
                await plant.ask(pods.add_port, name, PortRequest(port=3000 + step))
            case 7:
                plant.world.before = _away if plant.world.before is None else None
                await server.resync.turn()
            case _:
                await plant.clock.advance(chance.choice([1, 5, 20, 61]))
    except ConflictError:
        await asyncio.sleep(0)  # not now: the pod is being deleted, say
