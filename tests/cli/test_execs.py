"""`pod exec` and `pod shell` against a real server with the fake runtime, in pipes and in a terminal."""

import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest

from neuropod.kit.terminal.exits import Exit
from support.servers import Server, running_server

EVERY_BYTE = bytes(range(256))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(
        tmp_path_factory.mktemp("execs") / "data", fake_runtime="true", limits__execs_per_pod="3"
    ) as one:
        one.create("lab", template="jupyterlab")
        one.wait_for_status("lab", "running")
        yield one


def run(
    server: Server, *words: str, given: bytes | None = b"", **options: object
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        server.command("pod", *words),
        env=server.env,
        cwd=server.data_dir.parent,
        input=given,
        capture_output=True,
        timeout=60,
        **options,
    )


def process(server: Server, *words: str, **streams: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(server.command("pod", *words), env=server.env, cwd=server.data_dir.parent, **streams)


class Screen:
    """A terminal with a command in it."""

    def __init__(self, server: Server, *words: str, rows: int = 33, columns: int = 77) -> None:
        self.master, self._inner = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._inner)
        self.shown = b""
        self.process = subprocess.Popen(
            server.command("pod", *words),
            env=server.env | {"TERM": "vt100"},
            cwd=server.data_dir.parent,
            stdin=self._inner,
            stdout=self._inner,
            stderr=self._inner,
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - there is one thread here
        )

    def resize(self, rows: int, columns: int) -> None:
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def until(self, words: bytes, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self.read()

    def read(self) -> None:
        assert select.select([self.master], [], [], 30)[0], self.shown
        self.shown += os.read(self.master, 65536)

    @property
    def modes(self) -> list[object]:
        return termios.tcgetattr(self._inner)

    def end(self) -> int:
        code = self.process.wait(30)
        assert self.modes == self.before, "the terminal is not as it was"
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._inner)


@contextmanager
def screen(server: Server, *words: str) -> Iterator[Screen]:
    one = Screen(server, *words)
    try:
        yield one
    finally:
        one.close()


# In pipes


def test_output_errors_and_exit_code_are_the_commands_own(server: Server):
    done = run(server, "exec", "lab", "--", "sh", "-c", "echo one; echo two >&2; exit 3")

    assert (done.returncode, done.stdout, done.stderr) == (3, b"one\n", b"two\n")


def test_binary_data_passes_through_pipes_unchanged(server: Server, tmp_path: Path):
    given = EVERY_BYTE * 20_000  # 5 MB
    (tmp_path / "given").write_bytes(given)

    piped = run(server, "exec", "lab", "--", "cat", given=given)
    with (tmp_path / "given").open("rb") as source, (tmp_path / "got").open("wb") as target:
        code = process(server, "exec", "lab", "cat", stdin=source, stdout=target).wait(60)

    assert (piped.returncode, piped.stderr) == (0, b"")
    assert piped.stdout == given
    assert (code, (tmp_path / "got").read_bytes() == given) == (0, True)


def test_without_input_a_loop_keeps_its_own(server: Server):
    script = 'while read line; do "$@" pod exec -n lab -- echo "$line"; done'
    command = server.command()

    done = subprocess.run(
        ["sh", "-c", script, "sh", *command],
        env=server.env,
        cwd=server.data_dir.parent,
        input=b"one\ntwo\n",
        capture_output=True,
        timeout=60,
    )

    assert done.stdout == b"one\ntwo\n"


def test_one_who_reads_no_more_ends_it_quietly(server: Server):
    with process(server, "exec", "lab", "--", "yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.read(4) == b"y\ny\n"
        command.stdout.close()
        code = command.wait(30)
        told = command.stderr.read()

    assert (code, told) == (128 + signal.SIGPIPE, b"")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("exec", "lab", "--", "no-such-command"), 127, b"no-such-command: command not found"),
        (("exec", "nobodys", "--", "true"), Exit.NOT_FOUND, b"nobodys"),
        (("exec", "lab", "-t", "--", "true"), Exit.USAGE, b"options stand before the pod's name"),
        (("exec", "lab", "--"), Exit.USAGE, b"which command?"),
        (("exec", "lab"), Exit.USAGE, b"COMMAND"),
        (("exec", "lab", "--", ""), Exit.USAGE, b"no program can be given"),
    ],
)
def test_what_cannot_be_run_is_said(server: Server, words: tuple[str, ...], code: int, says: bytes):
    done = run(server, *words)

    assert (done.returncode, done.stdout) == (code, b"")
    assert says in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_pod_that_does_not_run_is_a_conflict_and_an_error_for_programs_too(server: Server):
    server.create("stopped", template="jupyterlab")
    server.wait_for_status("stopped", "running")
    server.verb("stopped", "stop")
    server.wait_for_status("stopped", "stopped")

    done = run(server, "exec", "--json", "stopped", "--", "true")

    error = json.loads(done.stderr)["error"]
    assert (done.returncode, error["code"]) == (Exit.CONFLICT, "not_running")
    assert "stopped" in error["message"]


def test_a_server_that_is_not_there_is_said(server: Server):
    done = subprocess.run(
        server.command("pod", "exec", "lab", "--", "true"),
        env=server.env | {"NEUROPOD_URL": "http://127.0.0.1:9", "NEUROPOD_API_KEY": "npk_x"},
        capture_output=True,
        timeout=60,
    )

    assert done.returncode == Exit.UNREACHABLE
    assert b"no server answers at http://127.0.0.1:9" in done.stderr


def test_too_many_at_once_is_a_conflict_and_their_end_makes_room(server: Server):
    held = [
        process(server, "exec", "-n", "lab", "--", "sh", "-c", "echo up; sleep 1000", stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    try:
        for one in held:
            assert one.stdout is not None
            assert one.stdout.readline() == b"up\n"
        refused = run(server, "exec", "lab", "--", "true")
        held[0].send_signal(signal.SIGTERM)
        ended = held[0].wait(30)
    finally:
        for one in held:
            one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()
    deadline = time.monotonic() + 30
    while run(server, "exec", "lab", "--", "true").returncode != 0:
        assert time.monotonic() < deadline

    assert refused.returncode == Exit.CONFLICT
    assert b"3 commands and terminals run in this pod already" in refused.stderr
    assert ended == 128 + signal.SIGTERM


# In a terminal


def test_a_shell_has_this_terminals_size_passes_every_key_and_gives_the_terminal_back(server: Server):
    with screen(server, "shell", "lab") as shell:
        shell.until(b"pod$ ")
        assert shell.modes != shell.before
        shell.type(b"stty size\r")
        shell.until(b"33 77\r\n")
        shell.resize(11, 22)
        asked = 1
        while b"11 22\r\n" not in shell.shown:  # which is told when this terminal's size has changed, and that is
            assert asked < 100
            shell.type(b"stty size\r")
            asked += 1
            while shell.shown.count(b"pod$ ") <= asked:
                shell.read()
        shell.type(b"exit 9\r")
        code = shell.end()

    assert code == 9


def test_ctrl_c_goes_to_the_pod(server: Server):
    with screen(server, "exec", "-t", "lab", "--", "sh", "-c", "echo up; sleep 1000") as command:
        command.until(b"up")
        command.type(b"\x03")
        code = command.end()

    assert code == 128 + signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_here_ends_it_and_gives_the_terminal_back(server: Server, number: int):
    with screen(server, "shell", "lab") as shell:
        shell.until(b"pod$ ")
        shell.process.send_signal(number)
        code = shell.end()

    assert code == 128 + number


def test_a_pod_that_is_stopped_cuts_the_terminal_and_gives_it_back(server: Server):
    server.create("short", template="jupyterlab")
    server.wait_for_status("short", "running")
    with screen(server, "shell", "short") as shell:
        shell.until(b"pod$ ")
        server.verb("short", "stop")
        code = shell.end()
        shell.until(b"while its own process does")

    assert code == Exit.CUT
    assert b"the command was ended: pod short is " in shell.shown


def test_a_server_that_dies_cuts_the_terminal_and_gives_it_back(tmp_path: Path):
    with running_server(tmp_path / "data", fake_runtime="true") as other:
        other.create("lab", template="jupyterlab")
        other.wait_for_status("lab", "running")
        with screen(other, "shell", "lab") as shell:
            shell.until(b"pod$ ")
            other.kill()
            code = shell.end()
            shell.until(b"was cut")

    assert code == Exit.CUT


def test_a_shell_without_a_terminal_reads_a_script(server: Server):
    done = run(server, "shell", "lab", given=b"echo from a script\nexit 6\n")

    assert (done.returncode, done.stdout) == (6, b"from a script\n")
