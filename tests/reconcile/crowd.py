"""Several servers on one database and one world: each may die or stand still at any moment, and wake much later."""

import asyncio
import random

from neuropod.db.engine import Database
from reconcile.crashes import PACES, VERBS, MortalPlant, check, settle
from reconcile.fates import Fate, MortalDatabase, dies, stands_still
from reconcile.plant import Server


class Crowd:
    """A story by its seed. Half of the pods want a GPU, of which there are two."""

    def __init__(self, database_url: str, seed: int, *, pods: int, servers: int) -> None:
        self._dice = random.Random(seed)
        self._url = database_url
        self._names = [f"pod{number}" for number in range(pods)]
        self._databases: list[Database] = [MortalDatabase(database_url)]
        self._plant = MortalPlant(self._databases[0])
        self._plant.world.default_script = self._dice.choice(PACES).script
        self._count = servers
        self._servers: list[Server] = []
        self._asleep: list[tuple[Server, Fate, asyncio.Task[None]]] = []
        self._met = 0  # who died, or stood still

    async def live(self, *, rounds: int, fates: int) -> None:
        """Live so many rounds, and on until so many servers met their fate; then hold the world against the wishes.

        How many moments a turn has depends on which passes share transactions, and so on how fast the machine is.
        """
        await self._plant.set_up()
        try:
            self._servers = [self._new_server() for _ in range(self._count)]
            lived = 0
            while lived < rounds or self._met < fates:
                await self._round()
                lived += 1
            await self._wake(len(self._asleep))
            await settle(self._plant, *self._servers, resync=True)
            await check(self._plant)
        finally:
            await self._wake(len(self._asleep))
            for server in self._servers:
                await server.aclose()
            await self._plant.world.aclose()
            for database in self._databases:
                await database.aclose()

    def _new_server(self) -> Server:
        """Return another server, with connections of its own where the database allows several servers."""
        if not self._databases[0].is_sqlite:
            self._databases.append(MortalDatabase(self._url))
        self._plant.database = self._databases[-1]
        server = Server(self._plant)
        self._plant.database = self._databases[0]
        return server

    async def _round(self) -> None:
        dice = self._dice
        for name in dice.sample(self._names, k=dice.randint(1, len(self._names))):
            verb = dice.choice(("launch", "launch", *VERBS))
            gpu_type = "rtx-4090" if self._names.index(name) % 2 else "cpu"
            await self._plant.wish(dice.choice(self._servers), verb, name, gpu_type)
        self._servers = await asyncio.gather(*(self._turn(server, self._fate()) for server in self._servers))
        await self._plant.clock.advance(dice.choice((0, 1, self._plant.settings.reconcile.lease_seconds + 1)))
        if dice.random() < 0.4:
            await self._wake(1)

    def _fate(self) -> Fate:
        kind = self._dice.choice(("lives", "dies", "stands still"))
        at = None if kind == "lives" else self._dice.randint(1, 20)
        return Fate(at, still=kind == "stands still")

    async def _turn(self, server: Server, fate: Fate) -> Server:
        """Let a server work under a fate; return it, or who takes its place."""
        if fate.still:
            life = await stands_still(server, fate)
            if life is None:
                return server
            self._asleep.append((server, fate, life))
        elif not await dies(server, fate):
            return server
        self._met += 1
        return self._new_server()

    async def _wake(self, count: int) -> None:
        """Let those go on who stood still longest, as if no time had passed for them."""
        awake, self._asleep = self._asleep[:count], self._asleep[count:]
        for server, fate, life in awake:
            fate.woken.set()
            await life
            await server.aclose()
