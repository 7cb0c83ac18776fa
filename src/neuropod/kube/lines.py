"""The lines of an answer that goes on: a followed log, a watch. KubeClient.open_lines and stream_lines."""

from collections.abc import Callable

from neuropod.kube.connections import Answer, LostError
from neuropod.kube.errors import KubeUnavailableError

_LONGEST = 1024 * 1024  # as long as an object can be, and more than a log's line should be


class LineStream:
    """Reads lines in batches; whoever opened it closes it."""

    def __init__(self, answer: Answer, end: Callable[[], None], server: str) -> None:
        self._answer = answer
        self._end = end
        self._server = server
        self._rest = bytearray()
        self._longest = _LONGEST
        self._over = False

    def allow(self, longest: int) -> None:
        """Keep lines of up to that many bytes together; longer ones come in parts."""
        self._longest = longest

    async def read(self) -> list[bytes] | None:
        """Return the next lines, without their newlines; None at the end. Raises KubeUnavailableError when it is cut.

        While nobody reads, the server is held back.
        """
        while not self._over:
            try:
                data = await self._answer.read()
            except LostError as error:
                raise KubeUnavailableError(f"a stream of {self._server} was cut: {error}") from error
            if not data:
                self._over = True
                break
            if (lines := self._split(data)) is not None:
                return lines
        if self._rest:
            last = [bytes(self._rest)]
            self._rest.clear()
            return last
        return None

    def close(self) -> None:
        """End the stream; may be repeated."""
        self._over = True
        self._end()

    def _split(self, data: bytes) -> list[bytes] | None:
        end = data.rfind(b"\n")
        if end < 0:
            self._rest += data
            if len(self._rest) < self._longest:
                return None
            part = [bytes(self._rest)]
            self._rest.clear()
            return part
        whole = bytes(self._rest) + data[:end] if self._rest else data[:end]
        self._rest = bytearray(data[end + 1 :])
        return whole.split(b"\n")
