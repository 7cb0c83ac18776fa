"""The least of an HTTP client: one question, one answer. Both sides of the comparison ask by it."""

import asyncio
import json
from contextlib import suppress
from typing import Any

PAUSE_SECONDS = 0.02  # between two looks at a port that does not answer yet
_LONGEST_SECONDS = 30.0


async def ask(
    address: str,
    port: int,
    path: str = "/",
    *,
    method: str = "GET",
    headers: dict[str, str],
    body: Any = None,
    longest_seconds: float = _LONGEST_SECONDS,
) -> tuple[int, bytes]:
    """Return status and body; OSError when nothing answers."""
    content = b"" if body is None else json.dumps(body).encode()
    told = {"Connection": "close", "Content-Length": str(len(content)), "Content-Type": "application/json", **headers}
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in told.items()) + "\r\n"
    async with asyncio.timeout(longest_seconds):
        reader, writer = await asyncio.open_connection(address, port)
        try:
            writer.write(head.encode() + content)
            answer = await reader.read()
        finally:
            writer.close()
    if not answer:
        raise ConnectionResetError("closed without an answer")
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split(b" ", 2)[1]), rest


async def until_200(address: str, port: int, headers: dict[str, str], path: str = "/") -> None:
    """Ask the port until it answers 200."""
    while True:
        with suppress(OSError):
            status, _ = await ask(address, port, path, headers=headers)
            if status == 200:
                return
        await asyncio.sleep(PAUSE_SECONDS)
