"""What it takes to be ready by a port, and how often that is asked: the same wherever a pod runs (DESIGN §4).

Quick at first, since a launch should cost no more than its own start; rarer the longer it takes. Called by the
runtimes, `local`'s shim among them: standard library only.
"""

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: neuropod-readiness\r\nConnection: close\r\n\r\n"
ENOUGH_BYTES = 12  # of an answer, to tell whether it is a good one

# Each: until how many seconds after the start, and how long between two looks.
_PACE = ((5.0, 0.02), (30.0, 0.05), (120.0, 0.25), (float("inf"), 1.0))


def pause_seconds(elapsed_seconds: float) -> float:
    """Return how long to wait before the next look."""
    return next(pause for until, pause in _PACE if elapsed_seconds < until)


def is_good_answer(data: bytes) -> bool:
    """Tell whether an answer begins like HTTP with a status below 500."""
    status = data[9:12]
    return data.startswith(b"HTTP/1.") and len(status) == 3 and status.isdigit() and 100 <= int(status) < 500
