"""The person's own terminal while a remote one is shown in it: raw, and as it was before at every end.

Used by `execs`. Whatever raises restores it; so do SIGTERM and SIGHUP there, which end the command by an exception.
"""

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

FALLBACK = (24, 80)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Pass every key on as it is typed, Ctrl-C too, for the length of the block."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        with suppress(termios.error):  # it may be gone, as its window
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def raw_again(fd: int) -> None:
    """Make it raw once more, after a shell that had stopped this process took it back (SIGCONT)."""
    with suppress(termios.error):
        tty.setraw(fd)


def size_of(*fds: int) -> tuple[int, int]:
    """Return rows and columns of the first of these that is a terminal."""
    for fd in fds:
        with suppress(OSError):
            columns, rows = os.get_terminal_size(fd)
            if rows > 0 and columns > 0:
                return rows, columns
    return FALLBACK
