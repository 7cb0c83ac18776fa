"""The local runtime on this machine, as root and as an ordinary user: real shims, sandboxes, networks and disks."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from neuropod.runtimes.contract import (
    LogQuery,
    NotReadyError,
    Phase,
    Workload,
    WorkloadRejectedError,
)
from neuropod.runtimes.local.runtime import LocalRuntime
from neuropod.runtimes.local.state import ProcessId, read_state
from neuropod.settings import LimitSettings
from neuropod.words import Reason
from runtimes.local.pods import MIB, a_workload, opened, output_of, printed, python, run_to_end, until

pytestmark = [pytest.mark.root, pytest.mark.user]

ECHO = """
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline()
        self.wfile.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n" if line.startswith(b"GET") else line.upper())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
Server(("127.0.0.1", 8888), Echo).serve_forever()
"""
FOREVER = "import time; print('up', flush=True); time.sleep(1000)"


async def said(runtime: LocalRuntime, workload: Workload, question: bytes) -> bytes:
    """Connect to the pod's port 8888, say something and return the answer."""
    connection = await runtime.connect(workload.id, 8888)
    reader = asyncio.StreamReader()
    transport = await connection.attach(asyncio.StreamReaderProtocol(reader))
    transport.write(question)
    answer = await asyncio.wait_for(reader.read(), 10)
    transport.close()
    return answer


async def test_a_pod_starts_gets_ready_is_connected_to_and_stops(runtime: LocalRuntime):
    workload = python(ECHO, port=8888, volume="vol_1")

    await runtime.ensure(workload)
    ready = await until(runtime, workload.id, Phase.READY)
    answer = await said(runtime, workload, b"hello\n")
    await runtime.stop(workload.id, grace_seconds=5, reason=Reason.REQUESTED)
    ended = await until(runtime, workload.id, Phase.EXITED)

    assert answer == b"HELLO\n"
    assert ready.started_at is not None
    assert ready.ready_at is not None
    assert ready.started_at <= ready.ready_at
    assert (ended.reason, ended.exit_code) == (Reason.REQUESTED, 128 + signal.SIGTERM)
    assert ended.started_at == ready.started_at
    assert ended.identity == ready.identity


async def test_two_pods_on_the_same_port_answer_for_themselves(runtime: LocalRuntime):
    first, second = (python(ECHO.replace("line.upper()", repr(name)), port=8888) for name in (b"one", b"two"))
    for workload in (first, second):
        await runtime.ensure(workload)
        await until(runtime, workload.id, Phase.READY)

    answers = [await said(runtime, workload, b"who?\n") for workload in (first, second, first, second)]

    assert answers == [b"one", b"two", b"one", b"two"]


@pytest.mark.parametrize(
    ("code", "exit_code", "reason"),
    [
        ("pass", 0, Reason.EXITED),
        ("raise SystemExit(7)", 7, Reason.CRASHED),
        ("import os; os.kill(os.getpid(), 11)", 128 + 11, Reason.CRASHED),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9, Reason.CRASHED),
    ],
)
async def test_the_end_is_told_as_shells_tell_it(runtime: LocalRuntime, code: str, exit_code: int, reason: Reason):
    seen = await run_to_end(runtime, python(code))

    assert (seen.exit_code, seen.reason) == (exit_code, reason)
    assert seen.finished_at is not None
    assert seen.finished_at >= seen.started_at


@pytest.mark.parametrize(("command", "exit_code"), [(("no-such-program",), 127), (("/etc/passwd",), 126)])
async def test_a_command_that_cannot_be_started_is_named(runtime: LocalRuntime, command, exit_code: int):
    workload = a_workload(*command)

    seen = await run_to_end(runtime, workload)

    assert (seen.exit_code, seen.reason) == (exit_code, Reason.CRASHED)
    assert command[0] in seen.message
    assert command[0] in (await output_of(runtime, workload))[0]
    assert seen.started_at is None


async def test_a_signal_reaches_the_whole_process_group_and_children_left_behind_end_too(runtime: LocalRuntime):
    workload = a_workload("bash", "-c", "trap 'echo bye; exit 3' TERM; setsid sleep 1000 & sleep 1000 & echo up; wait")
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)  # what it prints may be seen before that
    while "up" not in await output_of(runtime, workload):
        await asyncio.sleep(0.01)

    await runtime.stop(workload.id, grace_seconds=5, reason=Reason.REQUESTED)
    seen = await until(runtime, workload.id, Phase.EXITED)

    assert seen.exit_code == 3
    assert await output_of(runtime, workload) == ["up", "bye"]
    main = read_state(runtime._directories.state_dir(workload.id.pod, 1)).main
    assert not main.alive


async def test_a_pod_that_ignores_the_stop_is_stopping_until_it_is_killed(runtime: LocalRuntime):
    workload = python("import signal,time; signal.signal(15, 1); print('up', flush=True); time.sleep(1000)")
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)
    while not await output_of(runtime, workload):
        await asyncio.sleep(0.01)

    for _ in range(2):
        await runtime.stop(workload.id, grace_seconds=1, reason=Reason.IDLE)
    stopping = await runtime.observe(workload.id)
    await runtime.kill(workload.id, reason=Reason.REQUESTED)
    ended = await until(runtime, workload.id, Phase.EXITED)

    assert stopping is not None
    assert (stopping.phase, stopping.reason) == (Phase.STOPPING, Reason.IDLE)
    assert stopping.stopping_at is not None
    assert (ended.reason, ended.exit_code) == (Reason.IDLE, 128 + 9)


async def test_the_same_pod_is_ensured_once_however_often_it_is_asked(runtime: LocalRuntime):
    workload = python(FOREVER)

    await asyncio.gather(*(runtime.ensure(workload) for _ in range(5)))
    first = await until(runtime, workload.id, Phase.READY)
    await runtime.ensure(workload)

    assert [seen.identity for seen in await runtime.list_seen()] == [first.identity]


async def test_another_incarnation_waits_until_the_place_is_free(runtime: LocalRuntime):
    first = python(FOREVER)
    second = python("pass", pod=first.id.pod, incarnation=2)
    await runtime.ensure(first)
    await until(runtime, first.id, Phase.READY)

    with pytest.raises(WorkloadRejectedError) as refused:
        await runtime.ensure(second)
    seen = await runtime.observe(second.id)
    await runtime.stop(second.id, grace_seconds=1, reason=Reason.REQUESTED)
    await runtime.kill(second.id, reason=Reason.REQUESTED)
    await runtime.remove(second.id)

    assert refused.value.reason is Reason.PLACE_OCCUPIED
    assert seen is not None
    assert seen.id == first.id
    assert (await until(runtime, first.id, Phase.READY)).phase is Phase.READY


async def test_what_a_recipe_runtime_cannot_run_is_refused(runtime: LocalRuntime):
    image_only = a_workload("x")
    image_only = Workload(**{name: getattr(image_only, name) for name in Workload.__slots__} | {"recipe": None})
    nothing = a_workload()

    for workload in (image_only, nothing):
        with pytest.raises(WorkloadRejectedError):
            await runtime.ensure(workload)

    assert await runtime.list_seen() == []


async def test_a_running_pod_is_not_removed_and_an_ended_one_leaves_its_log(runtime: LocalRuntime):
    workload = python(FOREVER)
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)

    await runtime.remove(workload.id)
    still = await runtime.observe(workload.id)
    await runtime.kill(workload.id, reason=Reason.REQUESTED)
    await until(runtime, workload.id, Phase.EXITED)
    await runtime.remove(workload.id)
    await runtime.remove(workload.id)

    assert still is not None
    assert still.phase is Phase.READY
    assert await runtime.observe(workload.id) is None
    assert await output_of(runtime, workload) in ([], ["up"])
    await runtime.forget(workload.id)
    assert await output_of(runtime, workload) == []
    assert workload.id.pod not in runtime._directories.pods()


async def test_the_volume_stays_and_the_container_disk_goes(runtime: LocalRuntime):
    first = python("for p in ('/workspace/a', '/home/pod/a', '/tmp/a'): open(p, 'w').write('kept')", volume="vol_1")
    second = python(
        "import os; print([os.path.exists(p) for p in ('/workspace/a', '/home/pod/a', '/tmp/a')])",
        pod=first.id.pod,
        incarnation=2,
        volume="vol_1",
    )
    await printed(runtime, first)
    await runtime.remove(first.id)

    assert await printed(runtime, second) == ["[True, False, False]"]


async def test_secrets_reach_the_pod_and_no_file_or_argument_list(runtime: LocalRuntime, tmp_path: Path):
    workload = python(f"import os; print(len(os.environ['MY_SECRET'])); {FOREVER}", env={"MY_SECRET": "t0p-s3cret!"})
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)
    while not (lines := await output_of(runtime, workload)):
        await asyncio.sleep(0.01)

    found = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.stat().st_size < MIB and b"t0p-s3cret!" in path.read_bytes()
    ]
    command_lines = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command_lines.append((process / "cmdline").read_bytes())
        except OSError:
            continue

    assert lines[0] == "11"
    assert found == []
    assert not any(b"t0p-s3cret!" in line for line in command_lines)


async def test_a_port_where_nothing_listens_is_not_ready_at_once(runtime: LocalRuntime):
    workload = python(FOREVER)
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)

    begun = time.monotonic()
    with pytest.raises(NotReadyError):
        await runtime.connect(workload.id, 8888)
    other_incarnation = python("pass", pod=workload.id.pod, incarnation=9)
    with pytest.raises(NotReadyError):
        await runtime.connect(other_incarnation.id, 8888)

    assert time.monotonic() - begun < 4  # what does not answer is waited for for five


async def test_a_change_is_nudged_without_polling(runtime: LocalRuntime):
    nudges: list[str] = []

    async def listen() -> None:
        async for pod in runtime.watch():
            nudges.append(pod)  # noqa: PERF401 - it never ends by itself

    listening = asyncio.create_task(listen())
    await asyncio.sleep(0)
    workload = python(FOREVER)
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)
    await asyncio.sleep(0.1)
    before_the_end = len(nudges)
    os.kill(read_state(runtime._directories.state_dir(workload.id.pod, 1)).main.pid, signal.SIGKILL)
    await until(runtime, workload.id, Phase.EXITED)
    async with asyncio.timeout(5):
        while len(nudges) <= before_the_end:
            await asyncio.sleep(0.01)
    listening.cancel()

    assert before_the_end > 0
    assert set(nudges) == {workload.id.pod}


async def test_a_follower_of_fifty_thousand_lines_at_once_loses_none(runtime: LocalRuntime):
    workload = python(
        "import sys,time; time.sleep(0.5); sys.stdout.write(''.join(f'line {i} {\"x\" * 80}\\n' for i in range(50000)))"
    )
    await runtime.ensure(workload)

    numbers = [int(line.text.split()[1]) async for line in runtime.logs(workload.id, LogQuery(follow=True))]

    assert numbers == list(range(50_000))


async def test_a_follower_sees_lines_as_they_come_and_ends_with_the_pod(runtime: LocalRuntime):
    workload = python(
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15])\n"
        "print(0, flush=True); signal.sigwait([15]); print(1); print(2)"
    )
    await runtime.ensure(workload)

    seen: list[str] = []
    async for line in runtime.logs(workload.id, LogQuery(follow=True)):
        seen.append(line.text)
        if line.text == "0":  # seen while the pod runs, which goes on only now
            await until(runtime, workload.id, Phase.READY)
            await runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)

    assert seen == ["0", "1", "2"]
    resumed = [line.text async for line in runtime.logs(workload.id, LogQuery(since=0))]
    assert resumed == ["1", "2"]
    assert [line.text async for line in runtime.logs(workload.id, LogQuery(tail=1))] == ["2"]


async def test_the_log_of_an_ended_pod_is_cut_to_what_is_kept_of_its_last_incarnations(tmp_path: Path):
    limits = LimitSettings(log_bytes=10_000, log_incarnations=2)
    async with opened(tmp_path / "data", limits=limits) as runtime:
        workload = python("for i in range(20000): print('line', i)")
        for incarnation in (1, 2, 3):
            workload = python(workload.recipe.command[2], pod=workload.id.pod, incarnation=incarnation)
            await run_to_end(runtime, workload)
            await runtime.remove(workload.id)
        logs = runtime._directories.log_dir(workload.id.pod, 3)
        async with asyncio.timeout(20):
            while _bytes_of(logs) > 10_000:
                await asyncio.sleep(0.05)

        lines = await output_of(runtime, workload)

        assert sorted(path.name for path in logs.parent.iterdir()) == ["2", "3"]
        assert lines[-1] == "line 19999"


def _bytes_of(folder: Path) -> int:
    total = 0
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # cut meanwhile: another stands in its place
            total += file.stat().st_size
    return total


async def test_a_restarted_server_finds_the_pods_of_the_last_one(tmp_path: Path):
    workload = python(ECHO, port=8888)
    async with opened(tmp_path / "data", keep=True) as first:
        await first.ensure(workload)
        before = await until(first, workload.id, Phase.READY)

    async with opened(tmp_path / "data") as second:
        after = await second.observe(workload.id)
        answer = await said(second, workload, b"still there\n")
        await second.stop(workload.id, grace_seconds=5, reason=Reason.SERVER_DOWN)
        ended = await until(second, workload.id, Phase.EXITED)

    assert after == before
    assert answer == b"STILL THERE\n"
    assert ended.reason is Reason.SERVER_DOWN


async def test_a_killed_shim_takes_its_pod_with_it_and_the_pod_is_lost(runtime: LocalRuntime):
    workload = python(FOREVER, volume="vol_1")
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)
    state = read_state(runtime._directories.state_dir(workload.id.pod, 1))

    os.kill(state.shim_pid, signal.SIGKILL)
    seen = await until(runtime, workload.id, Phase.EXITED)
    async with asyncio.timeout(5):
        while state.main.alive:
            await asyncio.sleep(0.01)
    await runtime.remove(workload.id)

    assert (seen.reason, seen.exit_code) == (Reason.LOST, None)
    assert await runtime.observe(workload.id) is None
    # The place and the volume are free again.
    again = python("print('again')", pod=workload.id.pod, incarnation=2, volume="vol_1")
    assert await printed(runtime, again) == ["again"]


async def test_a_server_that_died_before_it_gave_the_plan_may_ensure_again(runtime: LocalRuntime):
    workload = python(FOREVER)
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)
    directory = runtime._directories.state_dir(workload.id.pod, 1)
    await runtime.kill(workload.id, reason=Reason.REQUESTED)
    await until(runtime, workload.id, Phase.EXITED)
    # What such a server leaves: a plan, and a first state whose shim is gone.
    (directory / "state.json").write_text(
        (directory / "state.json").read_text().replace('"taken": true', '"taken": false')
    )
    async with asyncio.timeout(20):
        while read_state(directory).shim.alive:
            await asyncio.sleep(0.05)

    nothing = await runtime.observe(workload.id)
    await runtime.ensure(workload)
    seen = await until(runtime, workload.id, Phase.READY)

    assert nothing is None
    assert seen.phase is Phase.READY


async def test_a_shim_that_hangs_is_killed_with_its_pod(runtime: LocalRuntime, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("neuropod.runtimes.local.shims._ANSWER_SECONDS", 0.3)
    workload = python(FOREVER)
    await runtime.ensure(workload)
    await until(runtime, workload.id, Phase.READY)
    state = read_state(runtime._directories.state_dir(workload.id.pod, 1))
    os.kill(state.shim_pid, signal.SIGSTOP)

    await runtime.kill(workload.id, reason=Reason.REQUESTED)
    seen = await until(runtime, workload.id, Phase.EXITED)

    assert seen.reason is Reason.LOST
    async with asyncio.timeout(5):
        while state.main.alive:
            await asyncio.sleep(0.01)


async def test_the_process_that_starts_shims_may_be_killed_without_harm(runtime: LocalRuntime):
    first, second = python(FOREVER), python(FOREVER)
    await runtime.ensure(first)
    await until(runtime, first.id, Phase.READY)

    runtime._starter._process.kill()
    await runtime.ensure(second)

    assert (await until(runtime, second.id, Phase.READY)).phase is Phase.READY
    assert (await runtime.observe(first.id)).phase is Phase.READY


async def test_a_recipe_that_cannot_be_built_fails_with_the_reason_and_a_stop_ends_a_build(runtime: LocalRuntime):
    bad = a_workload("x", packages=("git+https://example.org/evil",))

    seen = await run_to_end(runtime, bad)

    assert seen.reason is Reason.PREPARE_FAILED
    assert "evil" in seen.message
    assert seen.started_at is None


async def test_identities_are_of_process_and_boot(runtime: LocalRuntime):
    workload = python(FOREVER)
    await runtime.ensure(workload)
    seen = await until(runtime, workload.id, Phase.READY)

    boot, pid, start = seen.identity.split("/")

    assert boot == runtime._boot_id
    assert ProcessId(int(pid), int(start)).alive


async def test_every_file_that_programs_need_of_the_system_is_readable_inside(runtime: LocalRuntime):
    look = """
import os, socket, ssl
bundle = os.environ['SSL_CERT_FILE']
print(len(ssl.create_default_context(cafile=bundle).get_ca_certs()) > 10)
closed = []
for at, folders, files in os.walk('/'):
    if at in ('/proc', '/usr'):
        folders.clear()  # tens of thousands, which are not asked about
    elif not os.access(at, os.R_OK | os.X_OK):
        closed.append(at)
print(closed)
print(socket.gethostbyname(socket.gethostname()), open('/etc/resolv.conf').read().split()[:2])
"""
    lines = await printed(runtime, python(look))

    assert lines == ["True", "[]", "127.0.0.1 ['nameserver', '127.0.0.53']"]
