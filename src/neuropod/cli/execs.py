"""`neuropod pod exec` and `neuropod pod shell`: commands and a terminal in a pod.

Bytes pass as they are, in both directions: what a pod writes to a terminal are orders to that terminal, as with ssh.
Standard input is read in a thread of its own, since it may be a file, a pipe or a terminal, and a read of it cannot be
taken back; standard output is written in threads, so that a slow reader stops nothing but the command.
"""

import asyncio
import os
import select
import signal
import threading
from contextlib import ExitStack, suppress

import click
from pydantic import ValidationError

from neuropod.cli.commands import UserCall, UserCommand
from neuropod.cli.connecting import complete_pod
from neuropod.cli.rawterminal import raw, raw_again, size_of
from neuropod.client.execs import CutError, ExecStream, execution
from neuropod.kit.terminal.exits import CommandError, Exit
from neuropod.wire import exec as wire

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_OUTPUTS = {wire.STDOUT: _STDOUT, wire.STDERR: _STDERR}
_CHUNK = 64 << 10
_NOBODY_READS = 128 + signal.SIGPIPE
_AS_TYPED = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@click.command(
    "exec",
    cls=UserCommand,
    context_settings=_AS_TYPED,
    examples=[
        "neuropod pod exec lab -- nvidia-smi",
        "neuropod pod exec -t lab -- top",
        "tar c . | neuropod pod exec lab -- tar x",
        "neuropod pod exec lab -- cat results.bin > results.bin",
    ],
)
@click.option("--tty", "-t", "terminal", is_flag=True, help="Give the command a terminal.")
@click.option("--no-stdin", "-n", is_flag=True, help="Give the command no input; for loops that read their own.")
@click.argument("name", shell_complete=complete_pod)
@click.argument("words", nargs=-1, required=True, metavar="-- COMMAND…", type=click.UNPROCESSED)
@click.pass_obj
def exec_(call: UserCall, name: str, words: tuple[str, ...], terminal: bool, no_stdin: bool) -> int:
    """Run a command in a pod, in its volume, as the pod's own process runs. Input, output and errors are passed on.

    Ends with the command's own exit code (127: there is no such command, 126: it cannot be run, 128 + n: signal n);
    with 255 when it is cut off; with the usual codes when the command never began.
    """
    command = list(words[1:] if words[0] == "--" else words)
    if not command:
        raise click.UsageError("which command? neuropod pod exec NAME -- COMMAND…")
    if words[0] != "--" and command[0].startswith("-"):
        raise click.UsageError(f"options stand before the pod's name: {command[0]} would be the command")
    return _run(call, name, command, terminal=terminal, reads=not no_stdin)


@click.command("shell", cls=UserCommand, examples=["neuropod pod shell lab", "neuropod pod shell lab < script.sh"])
@click.argument("name", shell_complete=complete_pod)
@click.pass_obj
def shell(call: UserCall, name: str) -> int:
    """Open a shell in a pod: bash where it has one, else sh. It ends with the pod's run, and with the server.

    Ends with the shell's own exit code, and with 255 when it is cut off.
    """
    return _run(call, name, [], terminal=os.isatty(_STDIN), reads=True)


def _run(call: UserCall, name: str, command: list[str], *, terminal: bool, reads: bool) -> int:
    asked = None
    if terminal:
        rows, columns = size_of(_STDIN, _STDOUT, _STDERR)
        asked = {"rows": rows, "columns": columns} | _term(call)
    try:
        start = wire.ExecStart.model_validate({"command": command, "terminal": asked})
    except ValidationError as error:
        raise click.UsageError(f"the command {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    try:
        return asyncio.run(_Attached(call, name, start, reads=reads).run())
    except BrokenPipeError:
        return _NOBODY_READS
    except CutError as error:
        raise CommandError(error.message, exit_code=Exit.CUT) from None
    except _SignalledError as ended:
        return 128 + ended.number


def _term(call: UserCall) -> dict[str, str]:
    """Return the kind of terminal, where there is one that the server takes."""
    kind = call.environ.get("TERM", "")
    try:
        wire.ExecTerminal(rows=1, columns=1, term=kind)
    except ValueError:
        return {}
    return {"term": kind}


class _SignalledError(Exception):
    """This process was told to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Attached:
    """This process's own streams, tied to those of one command."""

    def __init__(self, call: UserCall, name: str, start: wire.ExecStart, *, reads: bool) -> None:
        self._connection = call.connection()
        self._name = name
        self._start = start
        self._reads = reads
        self._signalled: int | None = None
        self._sizes = asyncio.Event()

    async def run(self) -> int:
        """Return the command's exit code."""
        loop = asyncio.get_running_loop()
        running = asyncio.current_task()
        assert running is not None

        def end(number: int) -> None:
            self._signalled = number
            running.cancel()

        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        try:
            async with execution(self._connection, self._name, self._start) as stream:
                with ExitStack() as at_the_end:
                    resizing = None
                    if self._start.terminal is not None:
                        resizing = loop.create_task(self._tell_sizes(stream))
                        at_the_end.callback(resizing.cancel)
                        loop.add_signal_handler(signal.SIGWINCH, self._sizes.set)
                        if self._reads and os.isatty(_STDIN):
                            at_the_end.enter_context(raw(_STDIN))
                            loop.add_signal_handler(signal.SIGCONT, self._continued)
                    if self._reads:
                        feeding = loop.create_task(self._feed(stream, loop))
                        at_the_end.callback(feeding.cancel)
                    else:
                        await stream.end_input()
                    return await self._show(stream)
        except asyncio.CancelledError:
            if self._signalled is None:
                raise
            raise _SignalledError(self._signalled) from None

    async def _show(self, stream: ExecStream) -> int:
        async for one in stream.output():
            if isinstance(one, wire.ExecEnd):
                return one.exit_code or 0
            channel, data = one
            if channel in _OUTPUTS:
                await asyncio.to_thread(_write, _OUTPUTS[channel], data)
        raise CutError("the command ended without telling how")

    async def _feed(self, stream: ExecStream, loop: asyncio.AbstractEventLoop) -> None:
        """Pass standard input on until its end."""
        pieces: asyncio.Queue[bytes] = asyncio.Queue()
        taken = threading.Event()

        def read_all() -> None:
            data = b"begin"
            while data:
                data = _read()
                with suppress(RuntimeError):  # the loop has ended meanwhile, and this process ends
                    loop.call_soon_threadsafe(pieces.put_nowait, data)
                taken.wait()
                taken.clear()

        threading.Thread(target=read_all, daemon=True).start()
        while data := await pieces.get():
            await stream.give(data)
            taken.set()
        await stream.end_input()

    async def _tell_sizes(self, stream: ExecStream) -> None:
        while True:
            await self._sizes.wait()
            self._sizes.clear()
            await stream.resize(*size_of(_STDIN, _STDOUT, _STDERR))

    def _continued(self) -> None:
        raw_again(_STDIN)
        self._sizes.set()


def _read() -> bytes:
    while True:
        try:
            return os.read(_STDIN, _CHUNK)
        except BlockingIOError:
            select.select([_STDIN], [], [])
        except OSError:  # closed, or its window is
            return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:  # whoever shares it has made it so
            select.select([], [fd], [])
