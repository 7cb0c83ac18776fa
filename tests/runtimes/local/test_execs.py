"""Commands in pods of the local runtime: terminals, limits, what becomes of them when a server or a pod ends."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from neuropod.runtimes.contract import NotReadyError, Phase
from neuropod.runtimes.execution import ExecRequest, TerminalSize
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.words import Reason
from runtimes.local.commands import SIZE, output_of
from runtimes.local.pods import MODE, opened, python, until

pytestmark = [pytest.mark.root, pytest.mark.user]

SLEEPER = "import time; time.sleep(600)"

_ENDS_WHEN_TOLD = "import os, time\nwhile not os.path.exists('/workspace/told'): time.sleep(0.02)\nraise SystemExit(7)"
# A handler that is due just before its program begins to sleep runs after the sleep only, so this one takes naps.
_SAYS_HANGUP = """
import os, signal, time
def leave(*_):
    fd = os.open("/workspace/said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"hangup ")
    os._exit(0)
signal.signal(signal.SIGHUP, leave)
print("up", flush=True)
while True:
    time.sleep(0.05)
"""
# Here the signals wait until they are asked for.
_SAYS_SIZE_AND_INTERRUPT = """
import os, signal
told = [signal.SIGWINCH, signal.SIGINT]
signal.pthread_sigmask(signal.SIG_BLOCK, told)
print(os.ttyname(0), os.isatty(1), os.tcgetpgrp(0) == os.getpgrp(), flush=True)
while signal.sigwait(told) == signal.SIGWINCH:
    print(os.get_terminal_size(), flush=True)
print("interrupted", flush=True)
"""


async def read_until(execution, words: bytes) -> bytes:
    read = b""
    async with asyncio.timeout(30):
        while words not in read:
            chunk = await execution.read()
            assert chunk is not None, read
            read += chunk.data
    return read


async def test_a_program_in_a_terminal_hears_of_its_new_size_and_of_interrupts(runtime: LocalRuntime):
    pod = python(SLEEPER)
    await runtime.ensure(pod)
    await until(runtime, pod.id, Phase.READY)

    shell = await runtime.exec(pod.id, ExecRequest(("python3", "-c", _SAYS_SIZE_AND_INTERRUPT), 1, SIZE))
    first = await read_until(shell, b"True True")
    shell.resize(TerminalSize(rows=7, columns=9))
    await read_until(shell, b"columns=9, lines=7")
    await shell.write(b"\x03")
    await read_until(shell, b"interrupted")
    code = await shell.wait()
    await shell.aclose()

    assert first.startswith(b"/dev/pts/")
    assert code == 0


async def test_what_was_put_into_the_background_goes_on_and_holds_nobody_up(runtime: LocalRuntime):
    pod = python(SLEEPER, volume="vol_1")
    began = time.monotonic()

    told = await output_of(runtime, pod, "sh", "-c", "nohup sleep 300 >/dev/null 2>&1 & sleep 300 & echo gone")
    seconds = time.monotonic() - began
    running = await output_of(runtime, pod, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")

    assert told == "gone\n"
    assert seconds < 60
    assert running.count("sleep 300") >= 1


async def test_a_pod_that_ends_in_its_own_time_is_not_held_up_by_commands(runtime: LocalRuntime):
    pod = python(_ENDS_WHEN_TOLD, volume="vol_1")
    await runtime.ensure(pod)
    await until(runtime, pod.id, Phase.READY)

    shells = [await runtime.exec(pod.id, ExecRequest((), 5, SIZE)) for _ in range(3)]
    began = time.monotonic()
    await output_of(runtime, pod, "touch", "/workspace/told")
    seen = await until(runtime, pod.id, Phase.EXITED)
    codes = [await shell.wait() for shell in shells]
    for shell in shells:
        await shell.aclose()

    assert (seen.exit_code, seen.reason) == (7, Reason.CRASHED)
    assert codes == [137, 137, 137]
    assert time.monotonic() - began < 9  # nothing waited for anything


async def test_a_server_that_dies_takes_its_commands_along_and_nothing_else(tmp_path: Path):
    """One server starts a command and is killed; the next finds the pod as it was, and the command's last words."""
    async with opened(tmp_path / "data", mode=MODE) as runtime:
        pod = python(SLEEPER, volume="vol_1")
        await runtime.ensure(pod)
        before = await until(runtime, pod.id, Phase.READY)
        await runtime.aclose()
        code = textwrap.dedent(f"""
            import asyncio, sys, time
            from pathlib import Path
            from neuropod.runtimes.contract import WorkloadId
            from neuropod.runtimes.execution import ExecRequest, TerminalSize
            from runtimes.local.pods import INSTALLATION, opened
            async def main():
                async with opened(Path({str(tmp_path / "data")!r}), mode={MODE!r}, keep=True) as runtime:
                    pod = WorkloadId(INSTALLATION, {pod.id.pod!r}, 1)
                    words = {_SAYS_HANGUP!r}
                    for size in (None, TerminalSize(24, 80)):
                        command = await runtime.exec(pod, ExecRequest(("python3", "-c", words), 5, size))
                        assert b"up" in (await command.read()).data
                    print("running", flush=True)
                    time.sleep(600)
            asyncio.run(main())
        """)
        root = Path(__file__).parents[3]
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root / "tests"), os.environ.get("PYTHONPATH", "")]),
            "NEUROPOD_TEST_INSTALLATION": pod.id.installation,
        }
        with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == b"running\n"
            server.send_signal(signal.SIGKILL)
        await runtime.open()

        deadline = time.monotonic() + 20
        while (said := await output_of(runtime, pod, "cat", "/workspace/said")).count("hangup") < 2:
            assert time.monotonic() < deadline, said
            await asyncio.sleep(0.1)
        while "def leave" in await output_of(runtime, pod, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)

        assert await runtime.observe(pod.id) == before


async def test_a_command_that_ignores_the_hangup_is_killed(runtime: LocalRuntime):
    pod = python(SLEEPER)
    await runtime.ensure(pod)
    await until(runtime, pod.id, Phase.READY)
    command = await runtime.exec(pod.id, ExecRequest(("sh", "-c", "trap '' HUP; echo up; sleep 300; sleep 300"), 5))
    await read_until(command, b"up")

    await command.aclose()

    deadline = time.monotonic() + 20
    while "trap" in await output_of(runtime, pod, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | tr -d '+'; #"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def test_a_shim_that_dies_ends_the_command_too(runtime: LocalRuntime):
    pod = python(SLEEPER)
    await runtime.ensure(pod)
    await until(runtime, pod.id, Phase.READY)
    command = await runtime.exec(pod.id, ExecRequest(("sleep", "300"), 5))
    state = runtime._standing_state(pod.id)
    assert state is not None

    os.kill(state.shim_pid, signal.SIGKILL)

    async with asyncio.timeout(20):
        assert await command.read() is None
        assert await command.wait() == 137
    await command.aclose()
    with pytest.raises(NotReadyError):
        await runtime.exec(pod.id, ExecRequest(("true",), 5))
