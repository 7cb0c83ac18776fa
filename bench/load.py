"""The clients of the gateway's measurements: plain protocols on uvloop, in a process of their own.

`python -m bench.load rps|websocket|download PORT HOST KEY AMOUNT`; prints one number.
"""

import asyncio
import base64
import os
import statistics
import sys
import time

import uvloop

CONNECTIONS = 32


def head(host: str, key: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", f"X-Neuropod-Key: {key}", *lines, "", ""]).encode()


class Asking(asyncio.Protocol):
    """One connection that asks again as soon as it has an answer."""

    def __init__(self, request: bytes, finish: asyncio.Future) -> None:
        self.request, self.finish = request, finish
        self.answers = 0
        self.buffer = b""

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.buffer.endswith(b"hello, world!\n") or self.buffer.endswith(b"0\r\n\r\n"):
            if not self.buffer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(self.buffer.decode())
            self.buffer = b""
            self.answers += 1
            self.transport.write(self.request)

    def connection_lost(self, error) -> None:
        if not self.finish.done():
            self.finish.set_exception(error or ConnectionError("closed"))


async def rps(port: int, host: str, key: str, seconds: float) -> float:
    """Requests a second of all connections, after a short warm-up."""
    loop = asyncio.get_running_loop()
    finish = loop.create_future()
    asking = []
    for _ in range(CONNECTIONS):
        _, protocol = await loop.create_connection(lambda: Asking(head(host, key, "/"), finish), "127.0.0.1", port)
        asking.append(protocol)
    await asyncio.sleep(0.5)
    before, began = sum(one.answers for one in asking), time.perf_counter()
    await asyncio.wait({finish}, timeout=seconds)
    counted = sum(one.answers for one in asking) - before
    rate = counted / (time.perf_counter() - began)
    if not finish.done():
        finish.set_result(None)
    return rate


async def websocket(port: int, host: str, key: str, rounds: float) -> float:
    """Median microseconds of a round trip of a small message on one WebSocket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    nonce = base64.b64encode(os.urandom(16)).decode()
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {nonce}")
    writer.write(head(host, key, "/echo", *lines))
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 101"):
        raise SystemExit(answer.decode())
    frame = bytes((0x81, 0x80 | 5)) + bytes(4) + b"hello"
    times = []
    for _ in range(int(rounds)):
        began = time.perf_counter()
        writer.write(frame)
        await reader.readexactly(7)
        times.append(time.perf_counter() - began)
    writer.close()
    return statistics.median(times) * 1e6


class Taking(asyncio.BufferedProtocol):
    """Takes a large answer and counts it."""

    def __init__(self, request: bytes, amount: int, done: asyncio.Future) -> None:
        self.request, self.amount, self.done = request, amount, done
        self.buffer = bytearray(1 << 20)
        self.taken = 0

    def connection_made(self, transport) -> None:
        transport.write(self.request)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.taken += count
        if self.taken >= self.amount and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError(f"ended after {self.taken}"))


async def download(port: int, host: str, key: str, amount: float) -> float:
    """Megabytes a second of one download."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    began = time.perf_counter()
    request = head(host, key, f"/large/{int(amount)}")
    transport, _ = await loop.create_connection(lambda: Taking(request, int(amount), done), "127.0.0.1", port)
    await done
    transport.close()
    return amount / 1e6 / (time.perf_counter() - began)


if __name__ == "__main__":
    what, port, host, key, amount = sys.argv[1:]
    measured = {"rps": rps, "websocket": websocket, "download": download}[what]
    print(uvloop.run(measured(int(port), host, key, float(amount))))
