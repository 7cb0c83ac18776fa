"""Commands "in" a fake pod: a few that are played, with streams, a terminal of sorts, and an exit code.

Made by FakeRuntime.exec. No process is started. Played are `cat`, `echo`, `env`, `false`, `head -c N`, `sleep`, `stty
size`, `true`, `yes`, and `sh -c` of such words with `;`, `exit` and `>&2`; the login shell reads lines of the same.
Anything else is not found, as on a very small machine.
"""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from neuropod.runtimes.contract import Phase, WorkloadId
from neuropod.runtimes.execution import ExecRequest, OutputChunk, OutputStream, TerminalSize
from neuropod.runtimes.fake.world import FakeWorld

_KILLED = 137
_QUEUE = 16  # chunks on the way, in either direction
_CHUNK = 32 << 10
_END_OF_INPUT = b"\x04"
_INTERRUPT = b"\x03"


class FakeExecution:
    """One played command."""

    def __init__(self, world: FakeWorld, workload_id: WorkloadId, env: Mapping[str, str], request: ExecRequest) -> None:
        self._world = world
        self._workload_id = workload_id
        self._env = dict(env) | dict(request.env)
        self._size = request.terminal
        self._out: asyncio.Queue[OutputChunk] = asyncio.Queue(_QUEUE)
        self._in: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE)
        self._input_ended = False
        self.written = 0  # bytes
        self._moved = asyncio.Event()
        self._exit_code: int | None = None
        self._ended = asyncio.Event()
        self._rest = b""
        loop = asyncio.get_running_loop()
        self._command = loop.create_task(self._run(request.command))
        self._watch = loop.create_task(self._end_with_the_workload())
        world.executions.setdefault(workload_id, set()).add(self)

    # ---- the contract

    async def read(self) -> OutputChunk | None:
        """Return what it wrote next; None when it has ended and all was read."""
        while self._out.empty():
            if self._ended.is_set():
                return None
            self._moved.clear()
            await self._moved.wait()
        return self._out.get_nowait()

    async def write(self, data: bytes) -> None:
        """Give it input."""
        if self._size is not None:
            if _INTERRUPT in data:
                self.signal(2)
                return
            await self._say(data.replace(_END_OF_INPUT, b"").replace(b"\r", b"\n"))
            data = data.replace(b"\r", b"\n")
        for start in range(0, len(data), _CHUNK):
            if self._ended.is_set() or self._input_ended:
                raise BrokenPipeError("it takes no more input")
            putting = asyncio.ensure_future(self._in.put(data[start : start + _CHUNK]))
            ending = asyncio.ensure_future(self._ended.wait())
            await asyncio.wait({putting, ending}, return_when=asyncio.FIRST_COMPLETED)
            putting.cancel()
            ending.cancel()

    async def end_input(self) -> None:
        """Let it see the end of its input."""
        if self._size is not None:
            with suppress(BrokenPipeError):
                await self.write(_END_OF_INPUT)
        elif not self._input_ended:
            self._input_ended = True
            await self._in.put(b"")

    def resize(self, size: TerminalSize) -> None:
        """Change the size of its terminal."""
        if self._size is not None:
            self._size = size

    def signal(self, number: int) -> None:
        """End it, as every signal does here."""
        self._end(128 + number)

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        await self._ended.wait()
        return _KILLED if self._exit_code is None else self._exit_code

    async def aclose(self) -> None:
        """Let go."""
        self._end(_KILLED)
        await asyncio.gather(self._command, self._watch, return_exceptions=True)

    # ---- what is played

    async def _end_with_the_workload(self) -> None:
        while True:
            changed = self._world.changed
            standing = self._world.standing.get(self._workload_id)
            if standing is None or standing.seen(self._world.clock.now()).phase is Phase.EXITED:
                self._end(_KILLED)
                return
            await changed.wait()

    def _end(self, code: int) -> None:
        if self._ended.is_set():
            return
        self._exit_code = code
        self._ended.set()
        self._moved.set()
        self._world.executions[self._workload_id].discard(self)
        for task in (self._command, self._watch):
            if task is not asyncio.current_task():
                task.cancel()

    async def _run(self, command: tuple[str, ...]) -> None:
        if command:
            code = await self._do(list(command))
        else:
            code = await self._be_a_shell()
        self._end(code)

    async def _do(self, words: list[str], stream: OutputStream = OutputStream.STDOUT) -> int:
        name, arguments = words[0], words[1:]
        if name in {"sh", "/bin/sh"} and arguments[:1] == ["-c"] and len(arguments) > 1:
            return await self._do_line(arguments[1])
        played: dict[str, Callable[[list[str], OutputStream], Awaitable[int]]] = {
            "cat": self._cat,
            "echo": self._echo,
            "env": self._show_env,
            "head": self._head,
            "sleep": self._sleep,
            "stty": self._stty,
            "yes": self._yes,
        }
        if name in {"true", "false"}:
            return int(name == "false")
        if name not in played:
            await self._say(f"neuropod: {name}: command not found\n".encode(), OutputStream.STDERR)
            return 127
        return await played[name](arguments, stream)

    async def _do_line(self, line: str) -> int:
        code = 0
        for part in line.split(";"):
            words = shlex.split(part)
            stream = OutputStream.STDERR if ">&2" in words else OutputStream.STDOUT
            words = [word for word in words if word != ">&2"]
            if words[:1] == ["exit"]:
                return int(words[1]) if len(words) > 1 else code
            if words:
                code = await self._do(words, stream)
        return code

    async def _be_a_shell(self) -> int:
        """Read lines and play them; with a terminal there is a prompt."""
        while True:
            if self._size is not None:
                await self._say(b"pod$ ")
            line = await self._read_line()
            if line is None:
                return 0
            words = line.split()
            if words[:1] == ["exit"]:
                return int(words[1]) if words[1:] and words[1].isdecimal() else 0
            with suppress(ValueError):  # a quote that does not end
                await self._do_line(line)

    async def _read_line(self) -> str | None:
        while b"\n" not in self._rest:
            data = await self._in.get()
            if not data or data == _END_OF_INPUT:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace")

    async def _say(self, data: bytes, stream: OutputStream = OutputStream.STDOUT) -> None:
        if self._size is not None:
            data, stream = data.replace(b"\n", b"\r\n"), OutputStream.STDOUT
        for start in range(0, len(data), _CHUNK):
            await self._out.put(OutputChunk(stream, data[start : start + _CHUNK]))
            self.written += len(data[start : start + _CHUNK])
            self._moved.set()

    async def _cat(self, _: list[str], stream: OutputStream) -> int:
        while (data := await self._in.get()) and data != _END_OF_INPUT:
            if self._size is None:  # a terminal has echoed it already, and that is enough of a play
                await self._say(data, stream)
        return 0

    async def _echo(self, words: list[str], stream: OutputStream) -> int:
        await self._say(" ".join(words).encode() + b"\n", stream)
        return 0

    async def _show_env(self, _: list[str], stream: OutputStream) -> int:
        await self._say("".join(f"{name}={value}\n" for name, value in self._env.items()).encode(), stream)
        return 0

    async def _head(self, words: list[str], stream: OutputStream) -> int:
        left = int(words[1]) if words[:1] == ["-c"] and len(words) > 1 and words[1].isdecimal() else 0
        while left > 0:
            await self._say(bytes(min(left, _CHUNK)), stream)
            left -= _CHUNK
        return 0

    async def _sleep(self, words: list[str], _: OutputStream) -> int:
        await self._world.clock.sleep(float(words[0]))
        return 0

    async def _stty(self, _: list[str], stream: OutputStream) -> int:
        if self._size is None:
            await self._say(b"stty: standard input: not a terminal\n", OutputStream.STDERR)
            return 1
        await self._say(f"{self._size.rows} {self._size.columns}\n".encode(), stream)
        return 0

    async def _yes(self, _: list[str], stream: OutputStream) -> int:
        while True:
            await self._say(b"y\n" * 4096, stream)
