"""SECURITY 8: a recycled process number misdirects nothing: forged stale state, and an innocent process lives."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuropod.runtimes.contract import NotReadyError, Phase
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.runtimes.local.state import ProcessId, boot_id
from neuropod.words import Reason
from runtimes.local.pods import opened, python, until

pytestmark = [pytest.mark.root, pytest.mark.user]


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that has nothing to do with pods."""
    process = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def forge(runtime: LocalRuntime, workload, pid: int, **changes: object) -> None:
    """Write a state as a shim of long ago would have left it, naming a process that is now another's."""
    process = ProcessId.of(pid)
    directory = runtime._directories.state_dir(workload.id.pod, 1)
    state = json.loads((directory / "state.json").read_text())
    state |= {
        "phase": "ready", "reason": "ready", "taken": True, "boot_id": boot_id(), "finished_at": None,
        "shim_pid": pid, "shim_start_time": process.start_time, "main_pid": pid,
        "main_start_time": process.start_time, "started_at": 1.0,
    }  # fmt: skip
    (directory / "state.json").write_text(json.dumps(state | changes))


@pytest.mark.parametrize(
    "stale",
    [
        pytest.param({"shim_start_time": 5, "main_start_time": 5}, id="the number came again"),
        pytest.param({"boot_id": "of-last-week"}, id="the machine was started again"),
        pytest.param({"shim_pid": 2**22 - 1, "main_start_time": 5}, id="no such process"),
    ],
)
async def test_a_stale_state_is_lost_and_hits_nobody(tmp_path: Path, innocent: subprocess.Popen[bytes], stale):
    async with opened(tmp_path / "data") as runtime:
        workload = python("pass")
        await runtime.ensure(workload)
        await until(runtime, workload.id, Phase.EXITED)
        forge(runtime, workload, innocent.pid, **stale)

        seen = await runtime.observe(workload.id)
        with pytest.raises(NotReadyError):
            await runtime.connect(workload.id, 22)
        await runtime.stop(workload.id, grace_seconds=1, reason=Reason.REQUESTED)
        await runtime.kill(workload.id, reason=Reason.REQUESTED)
        await runtime.remove(workload.id)

        assert seen is not None
        assert (seen.phase, seen.reason) == (Phase.EXITED, Reason.LOST)
        assert await runtime.observe(workload.id) is None
    assert innocent.poll() is None


async def test_a_state_that_names_another_pod_or_installation_is_not_believed(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        workload = python("import time; time.sleep(1000)")
        await runtime.ensure(workload)
        await until(runtime, workload.id, Phase.READY)
        file = runtime._directories.state_dir(workload.id.pod, 1) / "state.json"
        honest = file.read_text()

        file.write_text(json.dumps(json.loads(honest) | {"pod": "pod_other"}))
        other_pod = await runtime.observe(workload.id)
        file.write_text(json.dumps(json.loads(honest) | {"installation": "inst_other"}))
        foreign = await runtime.observe(workload.id)
        await runtime.kill(workload.id, reason=Reason.REQUESTED)
        await runtime.remove(workload.id)
        still_there = file.exists()
        file.write_text(honest)

        assert other_pod is not None
        assert other_pod.reason is Reason.LOST
        assert foreign is None
        assert still_there
        assert (await runtime.observe(workload.id)).phase is Phase.READY


async def test_a_signal_for_a_main_process_that_ended_goes_nowhere(tmp_path: Path):
    async with opened(tmp_path / "data") as runtime:
        workload = python("pass")
        await runtime.ensure(workload)
        ended = await until(runtime, workload.id, Phase.EXITED)

        for _ in range(2):
            await runtime.stop(workload.id, grace_seconds=1, reason=Reason.IDLE)
            await runtime.kill(workload.id, reason=Reason.IDLE)

        assert await runtime.observe(workload.id) == ended
