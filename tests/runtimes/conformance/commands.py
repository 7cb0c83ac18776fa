"""The rules of commands beside a workload's own process (Capability.EXEC)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

import pytest

from neuropod.runtimes.contract import Capability, LogQuery, NotReadyError, Phase, WorkloadId
from neuropod.runtimes.execution import Exec, ExecRequest, Execution, OutputStream, TerminalSize, TooManyExecutionsError
from neuropod.words import Reason
from runtimes.conformance.kit import SECRET, Kit, ended, lines_of, sibling, started, until

SIZE = TerminalSize(rows=33, columns=77)
EVERY_BYTE = bytes(range(256))


async def _given_until_it_waits(command: Execution, most_mib: int) -> int:
    """Return how many MiB were taken, each within two seconds, before one had to wait."""
    given = 0
    while given < most_mib:
        try:
            await asyncio.wait_for(command.write(bytes(1 << 20)), 2)
        except TimeoutError:
            break
        given += 1
    return given


@dataclass(frozen=True)
class Outcome:
    code: int
    out: bytes
    err: bytes


@asynccontextmanager
async def execution(
    kit: Kit, workload_id: WorkloadId, *command: str, at_most: int = 5, terminal: TerminalSize | None = None
) -> AsyncIterator[Execution]:
    assert Capability.EXEC in kit.runtime.capabilities
    request = ExecRequest(command, at_most, terminal, {"TERM": "vt100"})
    one = await cast("Exec", kit.runtime).exec(workload_id, request)
    try:
        async with asyncio.timeout(kit.patience_seconds):
            yield one
    finally:
        await one.aclose()


async def outcome_of(one: Execution) -> Outcome:
    """Read to the end."""
    read = dict.fromkeys(OutputStream, b"")
    while (chunk := await one.read()) is not None:
        assert chunk.data
        read[chunk.stream] += chunk.data
    return Outcome(await one.wait(), read[OutputStream.STDOUT], read[OutputStream.STDERR])


async def run(kit: Kit, workload_id: WorkloadId, *command: str, given: bytes = b"") -> Outcome:
    """Run a command with that input."""
    async with execution(kit, workload_id, *command) as one:

        async def give() -> None:
            if given:
                await one.write(given)
            await one.end_input()

        giving = asyncio.create_task(give())
        outcome = await outcome_of(one)
        await giving
        return outcome


async def read_until(one: Execution, words: bytes, then: bytes = b"") -> bytes:
    """Read until the output has those words, and others at its very end."""
    read = b""
    while words not in read or not read.endswith(then):
        chunk = await one.read()
        assert chunk is not None, read
        read += chunk.data
    return read


async def _ask_until(one: Execution, question: bytes, words: bytes) -> None:
    """Ask twice a second until the output has those words."""
    reading = asyncio.create_task(read_until(one, words))
    while not reading.done():
        await one.write(question)
        await asyncio.wait([reading], timeout=0.5)
    await reading


class ExecRules:
    async def test_output_and_errors_come_apart_and_the_exit_code_is_its_own(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        outcome = await run(kit, workload.id, "sh", "-c", "echo to one; echo to the other >&2; exit 3")

        assert outcome == Outcome(3, b"to one\n", b"to the other\n")

    async def test_input_passes_unchanged_in_both_directions_until_its_end(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)
        given = EVERY_BYTE * 8192  # 2 MiB: more than every buffer on the way

        outcome = await run(kit, workload.id, "cat", given=given)

        assert (outcome.code, outcome.err) == (0, b"")
        assert outcome.out == given

    async def test_it_has_the_workloads_own_variables_and_those_that_were_asked_for(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        variables = (await run(kit, workload.id, "env")).out.decode().splitlines()

        assert f"THE_SECRET={SECRET}" in variables
        assert "TERM=vt100" in variables

    async def test_a_command_that_is_not_there_ends_with_127_and_says_so(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        outcome = await run(kit, workload.id, "no-such-command")

        assert (outcome.code, outcome.out) == (127, b"")
        assert b"no-such-command: command not found" in outcome.err

    async def test_a_terminal_has_the_size_that_was_asked_for_and_takes_another(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        async with execution(kit, workload.id, terminal=SIZE) as shell:
            await shell.write(b"stty size\r")
            await read_until(shell, b"33 77\r\n")
            shell.resize(TerminalSize(rows=11, columns=22))
            await _ask_until(shell, b"stty size\r", b"11 22\r\n")  # it may overtake the new size on its way
            await shell.write(b"exit 4\r")
            outcome = await outcome_of(shell)

        assert (outcome.code, outcome.err) == (4, b"")

    async def test_the_end_of_input_ends_a_shell_in_a_terminal(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        async with execution(kit, workload.id, terminal=SIZE) as shell:
            await shell.write(b"stty size\r")
            await read_until(shell, b"33 77\r\n", then=b"$ ")  # what is typed before the prompt is for the command
            await shell.end_input()
            outcome = await outcome_of(shell)

        assert outcome.code == 0

    async def test_what_nobody_reads_waits_and_what_nobody_takes_too(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        async with execution(kit, workload.id, "yes") as unread, execution(kit, workload.id, "sleep", "100") as deaf:
            given = await _given_until_it_waits(deaf, 2 * kit.held_mib)
            first = await unread.read()

        assert given < kit.held_mib
        assert first is not None
        assert first.data.startswith(b"y\ny\n")

    async def test_it_ends_with_the_workload_and_does_not_keep_it_alive(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        async with (
            execution(kit, workload.id, "sleep", "100") as one,
            execution(kit, workload.id, terminal=SIZE) as shell,
        ):
            await kit.runtime.stop(workload.id, grace_seconds=30, reason=Reason.REQUESTED)
            seen = await until(kit, workload.id, Phase.EXITED)
            outcomes = [await outcome_of(one), await outcome_of(shell)]

        assert (seen.exit_code, seen.reason) == (143, Reason.REQUESTED)
        assert all(outcome.code != 0 for outcome in outcomes)

    async def test_one_that_was_let_go_ends_and_the_workload_goes_on(self, kit: Kit):
        workload = kit.runs()
        before = await started(kit, workload)
        async with execution(kit, workload.id, "sleep", "100", at_most=1):
            with pytest.raises(TooManyExecutionsError):
                async with execution(kit, workload.id, "echo", at_most=1):
                    pass

        deadline = time.monotonic() + kit.patience_seconds
        while True:  # it has ended once there is room for another
            try:
                async with execution(kit, workload.id, "echo", "again", at_most=1) as other:
                    outcome = await outcome_of(other)
                break
            except TooManyExecutionsError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)

        assert outcome == Outcome(0, b"again\n", b"")
        assert await kit.runtime.observe(workload.id) == before

    async def test_a_signal_ends_it_as_shells_tell_it(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        async with execution(kit, workload.id, "sleep", "100") as one:
            one.signal(15)
            outcome = await outcome_of(one)

        assert outcome.code == 143

    async def test_what_it_writes_is_not_in_the_workloads_log(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        await run(kit, workload.id, "echo", "not for the log")

        assert await lines_of(kit, workload.id, LogQuery()) == []

    async def test_nothing_runs_in_what_does_not(self, kit: Kit):
        over = kit.exits(0)
        await ended(kit, over)
        workload = kit.runs(incarnation=2)
        await started(kit, workload)

        async with kit.of_another_installation() as other:
            theirs = WorkloadId(other.runs().id.installation, workload.id.pod, workload.id.incarnation)
            for where, workload_id in (
                (kit, kit.runs().id),
                (kit, over.id),
                (kit, sibling(workload, 1)),
                (kit, sibling(workload, 3)),
                (other, theirs),
            ):
                with pytest.raises(NotReadyError):
                    async with execution(where, workload_id, "echo"):
                        pass

    async def test_another_server_runs_commands_too(self, kit: Kit):
        workload = kit.runs()
        await started(kit, workload)

        async with kit.another_server() as second:
            outcome = await run(second, workload.id, "echo", "from the second")

        assert outcome == Outcome(0, b"from the second\n", b"")
