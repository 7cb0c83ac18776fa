"""Hands connections on to an address that its own network reaches: a program of its own, run in that network.

What it listens on is its standard input, a socket that whoever started it made in another network; a socket stays in the
network that it was made in. It ends with the one who reads its standard output.
"""

import asyncio
import socket
import sys
from contextlib import suppress


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()


async def relay(host: str, port: int) -> None:
    """Hand on until nobody reads any more."""
    unread = asyncio.Event()
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        task.add_done_callback(serving.discard)
        try:
            above_reader, above = await asyncio.open_connection(host, port)
        except OSError:  # nobody is there: whoever asks is reset, as by that machine itself
            writer.transport.abort()
            return
        ways = [asyncio.create_task(_pour(reader, above)), asyncio.create_task(_pour(above_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            above.close()
            writer.close()

    listening = await asyncio.start_server(serve, sock=socket.socket(fileno=sys.stdin.fileno()))
    asyncio.get_running_loop().add_reader(sys.stdout.fileno(), unread.set)  # of a pipe one hears its end alone
    sys.stdout.write("relaying\n")
    sys.stdout.flush()
    await unread.wait()
    listening.close()
    for task in serving:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], int(sys.argv[2])))
