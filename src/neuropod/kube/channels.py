"""A command in a container, over a WebSocket with channels (subprotocol v5.channel.k8s.io): KubeClient.exec_socket.

Channels: 0 standard input, 1 output, 2 error, 3 the Status at the end, 4 the size of the terminal, 255 closes one.
https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/4006-transition-spdy-to-websockets
"""

from enum import IntEnum


class Channel(IntEnum):
    """Where the bytes of a message belong."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    RESIZE = 4


class ChannelSocket:
    """One command that runs. Whoever asked for it closes it. One reader and one writer at a time."""

    async def read(self) -> tuple[Channel, bytes] | None:
        """Return what it wrote next (STDOUT or STDERR; never empty); None when it has ended and all was read.

        What is not read stays on its way, and then the command waits. Raises KubeUnavailableError when it was cut.
        """
        raise NotImplementedError

    async def write(self, data: bytes) -> None:
        """Give it input; returns once the connection took it. BrokenPipeError: it takes no more."""
        raise NotImplementedError

    async def end_input(self) -> None:
        """Close its standard input; may be repeated."""
        raise NotImplementedError

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal; after its end, nothing."""
        raise NotImplementedError

    async def wait(self) -> int:
        """Return its exit code; what it still writes meanwhile is dropped.

        Raises KubeError when it could not be started (`message` says why), KubeUnavailableError when it was cut.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Cut it; may be repeated. The command is not told: it meets closed pipes, or goes on."""
        raise NotImplementedError
