"""Reading Server-Sent Events (the HTML standard, 9.2). Pure: bytes in, events out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event; `id` is that of the newest event that had one."""

    event: str
    data: str
    id: str | None


def events(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the events in a stream of bytes. An event that was cut off is dropped, as the standard has it."""
    event, event_id = "", None
    data: list[str] = []
    for line in lines(chunks):
        if not line:
            if data:
                yield ServerSentEvent(event or "message", "\n".join(data), event_id)
            event, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            event_id = value


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines in chunks of UTF-8, cut at LF, CR LF or CR and at nothing else.

    `str.splitlines`, which httpx's own `iter_lines` uses, also cuts at characters that JSON leaves in its texts.
    """
    rest = b""
    for chunk in chunks:
        whole = rest + chunk
        if whole.endswith(b"\r"):  # an LF may follow in the next chunk
            whole, held = whole[:-1], b"\r"
        else:
            held = b""
        *done, last = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest = last + held
        for line in done:
            yield line.decode(errors="replace")
