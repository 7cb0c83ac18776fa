"""A server killed at any moment of its verbs leaves nothing half: the next one finds each pod whole, or not at all."""

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuropod.ids import PodId
from neuropod.runtimes.contract import Phase, WorkloadRejectedError
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.words import Reason
from runtimes.local.pods import INSTALLATION, a_workload, opened, until

pytestmark = pytest.mark.root

PODS = [PodId(f"pod_{letter}") for letter in "abcd"]
ROUNDS = 12


async def work(data_dir: Path, seed: int) -> None:
    """Be a server that does one verb after the other, until it is killed."""
    chance = random.Random(seed)
    async with opened(data_dir, keep=True) as runtime:
        print("open", flush=True)  # noqa: T201 - the parent waits for it
        await asyncio.gather(*(work_on(runtime, pod, random.Random(chance.random())) for pod in PODS))


async def work_on(runtime: LocalRuntime, pod: PodId, chance: random.Random) -> None:
    incarnation = max(runtime._directories.incarnations(pod), default=0) + 1
    while True:
        workload = a_workload("sleep", "1000", pod=pod, incarnation=incarnation, volume=f"vol_{pod}")
        match chance.choice(["ensure", "stop", "kill", "remove", "wait"]):
            case "ensure":
                try:
                    await runtime.ensure(workload)
                except WorkloadRejectedError:
                    incarnation = max(runtime._directories.incarnations(pod), default=incarnation)
            case "stop":
                await runtime.stop(workload.id, grace_seconds=1, reason=Reason.REQUESTED)
            case "kill":
                await runtime.kill(workload.id, reason=Reason.REQUESTED)
            case "remove":
                await runtime.remove(workload.id)
                if await runtime.observe(workload.id) is None:
                    incarnation += 1
            case _:
                await asyncio.sleep(chance.random() * 0.1)


def processes_of(uid: int) -> list[str]:
    """Return the command lines of all processes of a uid, and of the sandboxes made for it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_text().replace("\0", " ")
            if process.stat().st_uid == uid or f"--reuid {uid} " in line:
                found.append(line.split(" --")[0])
        except OSError:
            continue
    return found


@pytest.mark.timeout(300)
async def test_whatever_a_killed_server_was_doing_every_pod_is_whole_or_not_there(tmp_path: Path):
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}")  # noqa: T201 - shown where it fails

    for _ in range(ROUNDS):
        server = subprocess.Popen(
            [sys.executable, "-m", "runtimes.local.test_killed_server", str(tmp_path / "data"), str(chance.random())],
            env={
                **os.environ,
                "NEUROPOD_TEST_INSTALLATION": INSTALLATION,
                "PYTHONPATH": os.pathsep.join(["tests", os.environ.get("PYTHONPATH", "")]),
            },
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
        )
        assert server.stdout is not None
        assert server.stdout.readline() == b"open\n"
        await asyncio.sleep(chance.random() * 0.6)
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stdout.close()

    async with opened(tmp_path / "data") as runtime:
        seen = {each.id.pod: each for each in await runtime.list_seen()}
        for each in seen.values():
            settled = await until(runtime, each.id, Phase.READY, Phase.EXITED)
            assert settled.reason in {Reason.READY, Reason.REQUESTED, Reason.LOST}, settled.message
        async with asyncio.timeout(30):  # the last signals of the killed server may still be on their way
            while len(processes_of(runtime._owners.uid_of("usr_1"))) != 3 * len(
                [each for each in await runtime.list_seen() if each.phase is Phase.READY]
            ):
                await asyncio.sleep(0.05)
        running = [each for each in await runtime.list_seen() if each.phase is Phase.READY]
        uid = runtime._owners.uid_of("usr_1")
        found = [re.sub(r".*/bwrap$", "bwrap", line) for line in processes_of(uid)]  # the system's, or one fetched
        assert sorted(found) == sorted(["bwrap", "bwrap", "sleep 1000 "] * len(running))
        for pod in PODS:
            assert len(runtime._directories.incarnations(pod)) <= 1

        # And every place is free for the next incarnation once the old one is gone.
        for pod in PODS:
            for each in (each for each in await runtime.list_seen() if each.id.pod == pod):
                await runtime.kill(each.id, reason=Reason.REQUESTED)
                await until(runtime, each.id, Phase.EXITED)
                await runtime.remove(each.id)
            again = a_workload("sleep", "1000", pod=pod, incarnation=1000, volume=f"vol_{pod}")
            await runtime.ensure(again)
            await until(runtime, again.id, Phase.READY)

    deadline = time.monotonic() + 30
    while processes_of(uid) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert processes_of(uid) == []


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), hash(sys.argv[2])))
