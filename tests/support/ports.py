"""Ports for programs that have to be told theirs before they listen: `free_port()`.

They lie below those that the kernel gives to outgoing connections (32768 and above), of which one could take the port
in the moment until its program listens, or while it is restarted.
"""

import os
import socket
from itertools import count
from random import SystemRandom

_FIRST, _OF_A_WORKER, _WORKERS = 20_000, 1_000, 10
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw9").removeprefix("gw")) % _WORKERS
_numbers = count(SystemRandom().randrange(_OF_A_WORKER))  # another run of tests may go on beside this one


def free_port(address: str = "127.0.0.1") -> int:
    """A port of this machine that nobody has, and that is given to nobody else here for a while."""
    for _ in range(_OF_A_WORKER):
        port = _FIRST + _worker * _OF_A_WORKER + next(_numbers) % _OF_A_WORKER
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
