"""When Python's collector of cyclic garbage runs: not while a command is imported, and rarely in a server.

Nearly all garbage here goes by its reference counts. Importing a server makes half a million objects that stay, which
took a tenth of its start to walk over again and again; a burst of launches paid as much.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let no collection run meanwhile; for imports, whose objects stay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def collect_rarely() -> None:
    """Never look again at what is there now, and for cycles every 10,000 objects; by default Python does every 700."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
