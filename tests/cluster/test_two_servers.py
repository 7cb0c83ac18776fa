"""Two servers on one cluster and one PostgreSQL: each pod runs once, and what a killed one was at the other ends.

A third server is of another installation: nobody's loops touch what is not theirs.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest
import pytest_asyncio

from support.cluster_server import QUICK, cluster, isolates, server_on, small_type
from support.cluster_wishes import SLEEPER, PodsMade, await_clean, await_wishes, namespace_of_admin, pods_made
from support.postgres import Postgres
from support.servers import Server

pytestmark = [pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def servers(postgres: Postgres) -> AsyncIterator[tuple[Server, Server, Server]]:
    """Two of one installation, and one of another."""
    folder = Path(mkdtemp(prefix="np2"))
    database = folder.name.lower().replace("_", "x")
    postgres.sql(f"CREATE DATABASE {database}")
    quick = QUICK | {"reconcile__lease_seconds": "10"}
    shared = {"database_url": postgres.url(database), "key_file": str(folder / "shared.key")}
    async with AsyncExitStack() as stack:
        made = []
        for name, more in (("a", shared), ("b", shared), ("other", {})):
            (folder / name).mkdir()
            server = await stack.enter_async_context(server_on(folder / name / "data", cluster(), **more, **quick))
            made.append(server)
            if name != "b":  # that has what a has
                small_type(server)
                isolates(server)  # before another begins: canaries of one installation have one place
        a, b, other = made
        yield a, b, other
        for server in made:  # each is asked for its users when it is cleared away
            if server.process is None or server.process.poll() is not None:
                server.start()
    rmtree(folder)


async def test_what_one_began_the_other_ends_and_another_installation_is_left_alone(
    servers: tuple[Server, Server, Server],
):
    a, b, other = servers
    with pods_made() as made:
        other.create("theirs", **SLEEPER)
        theirs = await_wishes(other, {"theirs": "running"})["theirs"]
        wanted = {f"p{number}": "running" for number in range(8)}
        for number, name in enumerate(wanted):
            (a, b)[number % 2].create(name, **SLEEPER)
        a.kill()  # amid its launches, with its leases
        b.create("late", **SLEEPER)
        wanted["late"] = "running"
        await_wishes(b, wanted)
        b.api.delete("/pods/p0").raise_for_status()
        b.verb("p1", "stop")
        a.start()
        b.kill()
        a.verb("p2", "restart")
        wanted |= {"p0": "gone", "p1": "stopped"}

        pods = await_wishes(a, wanted)
        await_clean(a, namespace_of_admin(a))

        assert not made.doubled()
        _each_once(made, pods)
        assert other.pod("theirs")["since"] == theirs["since"]
        assert made.of(theirs["id"]) == {1: 1}


def _each_once(made: PodsMade, pods: dict[str, dict[str, object]]) -> None:
    """Each has run as often as it was asked to, and not once more."""
    expected = {name: {1: 1, 2: 1} if name == "p2" else {1: 1} for name in pods}
    assert {name: made.of(str(pod["id"])) for name, pod in pods.items()} == expected
