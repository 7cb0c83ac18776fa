"""DNS messages, as much of them as the forwarder must understand. Pure; called by `dns`.

A message that cannot be read to its end counts as one with a refused address: what is not understood is not passed on.
"""

import socket
import struct
from collections.abc import Iterator, Sequence

from neuropod.runtimes.local.filters import is_refused

_HEADER = struct.Struct("!HHHHHH")  # id, flags, questions, answers, authorities, additional
_RECORD = struct.Struct("!HHIH")  # type, class, seconds to live, length
_A, _AAAA, _OPT = 1, 28, 41
_RESPONSE, _TRUNCATED, _AVAILABLE = 0x8000, 0x0200, 0x0080
_KEPT_FLAGS = 0x7910  # operation, recursion desired, checking disabled
_SERVFAIL = 2
_PLAIN_BYTES = 512  # what fits without EDNS


def is_question(message: bytes) -> bool:
    """Tell whether it is an ordinary question about one name."""
    if len(message) < _HEADER.size:
        return False
    _, flags, questions, *_ = _HEADER.unpack_from(message)
    try:
        return not flags & (_RESPONSE | 0x7800) and questions == 1 and bool(_question(message))
    except ValueError:
        return False


def answers(question: bytes, answer: bytes) -> bool:
    """Tell whether the answer is to that question; its name may come back in other cases of letters."""
    if len(answer) < _HEADER.size or not answer[2] & 0x80:
        return False
    try:
        return _question(question).lower() == _question(answer).lower()
    except ValueError:
        # A server that found the question strange answers with a bare header.
        return _HEADER.unpack_from(answer)[2] == 0 and answer[3] & 0x0F != 0


def has_refused_address(answer: bytes, allowed: Sequence[str]) -> bool:
    """Tell whether a record of the answer holds an address that pods may not reach."""
    try:
        for kind, data in _records(answer):
            if kind == _A and len(data) == 4 and is_refused(socket.inet_ntoa(data), allowed):
                return True
            if kind == _AAAA and len(data) == 16 and is_refused(socket.inet_ntop(socket.AF_INET6, data), allowed):
                return True
    except (ValueError, struct.error):
        return True
    return False


def emptied(question: bytes) -> bytes:
    """Return the answer that the name exists and has no such address."""
    return _reply(question, 0)


def failure(question: bytes) -> bytes:
    """Return the answer that nothing could be found out."""
    return _reply(question, _SERVFAIL)


def fitting(question: bytes, answer: bytes) -> bytes:
    """Return the answer if the asker takes that much in a datagram, else the word that he should come by TCP."""
    if len(answer) <= _room(question):
        return answer
    reply = bytearray(_reply(question, answer[3] & 0x0F))
    reply[2] |= _TRUNCATED >> 8
    return bytes(reply)


def for_stream(message: bytes) -> bytes:
    """Return a message as it goes over TCP."""
    return len(message).to_bytes(2) + message


def first_of_stream(heard: bytes) -> tuple[bytes, bytes] | None:
    """Return the first message of what came over TCP, and what came after it; None until it is whole."""
    end = 2 + int.from_bytes(heard[:2])
    return (heard[2:end], heard[end:]) if len(heard) >= end else None


def _reply(question: bytes, code: int) -> bytes:
    number, flags, *_ = _HEADER.unpack_from(question)
    flags = flags & _KEPT_FLAGS | _RESPONSE | _AVAILABLE | code
    return _HEADER.pack(number, flags, 1, 0, 0, 0) + _question(question)


def _room(question: bytes) -> int:
    try:
        at = _HEADER.size + len(_question(question))
        for _ in range(sum(_HEADER.unpack_from(question)[3:])):
            at = _end_of_name(question, at)
            kind, size, _, length = _RECORD.unpack_from(question, at)
            if kind == _OPT:
                return max(_PLAIN_BYTES, int(size))
            at += _RECORD.size + length
    except (ValueError, struct.error):
        pass
    return _PLAIN_BYTES


def _question(message: bytes) -> bytes:
    """Return name, type and class of the message's question, as they stand there."""
    end = _end_of_name(message, _HEADER.size) + 4
    if end > len(message) or _HEADER.unpack_from(message)[2] != 1:
        raise ValueError("no question")
    return message[_HEADER.size : end]


def _records(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and data of every record; ValueError where the message breaks off."""
    _, _, questions, *counts = _HEADER.unpack_from(message)
    at = _HEADER.size
    for _ in range(questions):
        at = _end_of_name(message, at) + 4
    for _ in range(sum(counts)):
        at = _end_of_name(message, at)
        kind, _, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        if at + length > len(message):
            raise ValueError("cut off")
        yield kind, message[at : at + length]
        at += length


def _end_of_name(message: bytes, at: int) -> int:
    while at < len(message):
        length = message[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:  # the rest of the name stands elsewhere
            return at + 2
        if length > 63:
            break
        at += 1 + length
    raise ValueError("not a name")
