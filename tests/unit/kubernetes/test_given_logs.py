"""What is kept of what a node gives as a log."""

import pytest

from neuropod.runtimes.kubernetes.logs import given

GONE = b"unable to retrieve container logs for containerd://6f1c2b"


class Stream:
    def __init__(self, *batches: list[bytes]) -> None:
        self._batches = list(batches)

    async def read(self) -> list[bytes] | None:
        return self._batches.pop(0) if self._batches else None


async def all_of(*batches: list[bytes]) -> list[bytes]:
    return [line async for lines in given(Stream(*batches)) for line in lines]


async def test_that_a_node_has_no_log_is_told_as_that():
    (line,) = await all_of([GONE])

    assert b"the log is lost" in line


@pytest.mark.parametrize(
    "batches",
    [
        ([GONE], [b"and more"]),
        ([GONE, b"and more"],),
        ([b"said: " + GONE],),
        ([b"one"], [GONE]),
        ([b"one", b""], [b"two"]),
        (),
    ],
)
async def test_what_a_pod_wrote_is_kept_as_it_is(batches: tuple[list[bytes], ...]):
    assert await all_of(*batches) == [line for lines in batches for line in lines]
