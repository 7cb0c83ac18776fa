"""What is on the internet of the tests' world: servers that tell who asks, a resolver, somebody who takes datagrams.

Each is a child of whoever calls this, in the network namespace in which it is called, and ends with its parent.
"""

import os
import socket
import threading
from collections.abc import Callable

from neuropod.runtimes.local import linux

SERVERS = ("198.51.100.7", "10.77.0.9", "169.254.169.254")
RESOLVER = "198.51.100.53"
NAMES = {
    "good.example": ["198.51.100.7"],
    "mixed.example": ["198.51.100.7", "10.0.0.5"],
    "metadata.example": ["169.254.169.254"],
    "loopback.example": ["127.0.0.1"],
    "nas.example": ["10.77.0.9"],
    "six.example": ["fd00::1"],
    "mapped.example": ["::ffff:10.0.0.5"],
    "big.example": [f"198.51.100.{number}" for number in range(1, 100)],
}


def until_ready(child: Callable[[Callable[[], None]], None]) -> int:
    """Fork; return the child's number once it said that it is ready. It ends with its parent."""
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        linux.die_with_parent(parent)
        os.close(reading)
        child(lambda: (os.write(writing, b"x"), os.close(writing)))
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    return pid


def _answer_forever(listener: socket.socket) -> None:
    while True:
        connection, peer = listener.accept()
        with connection:
            connection.sendall(peer[0].encode())


def serve(address: str, port: int) -> None:
    """Answer, in a child in this namespace, each connection with the address that it came from."""

    def child(ready: Callable[[], None]) -> None:
        listener = socket.create_server((address, port))
        ready()
        _answer_forever(listener)

    until_ready(child)


def serve_internet() -> None:
    """Be, in a child, what is on the internet."""

    def child(ready: Callable[[], None]) -> None:
        listeners = [socket.create_server((address, 80)) for address in SERVERS]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((RESOLVER, 53))
        tcp = socket.create_server((RESOLVER, 53))
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("198.51.100.7", 7))  # from where it is asked it answers
        for listener in listeners:
            threading.Thread(target=_answer_forever, args=(listener,), daemon=True).start()
        threading.Thread(target=_resolve_streams, args=(tcp,), daemon=True).start()
        threading.Thread(target=_mirror, args=(datagrams,), daemon=True).start()
        ready()
        while True:
            question, asker = udp.recvfrom(4096)
            answer = resolved(question)
            udp.sendto(
                answer if len(answer) <= 512 else question[:2] + b"\x87\x80" + answer[4:6] + bytes(6) + question[12:],
                asker,
            )

    until_ready(child)


_datagrams_from: list[str] = []


def _mirror(datagrams: socket.socket) -> None:
    """Take datagrams, and tell whoever asks who sent some."""
    while True:
        data, peer = datagrams.recvfrom(100)
        if data == b"who":
            datagrams.sendto(" ".join(_datagrams_from).encode(), peer)
        else:
            _datagrams_from.append(peer[0])


def _resolve_streams(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            length = int.from_bytes(connection.recv(2), "big")
            answer = resolved(connection.recv(length))
            connection.sendall(len(answer).to_bytes(2, "big") + answer)


def resolved(question: bytes) -> bytes:
    """Answer as a resolver that knows NAMES."""
    at, labels = 12, []
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    end = at + 5
    kind = int.from_bytes(question[at + 1 : at + 3], "big")
    records = []
    for address in NAMES.get(".".join(labels), []):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if kind == (28 if ":" in address else 1):
            data = socket.inet_pton(family, address)
            records.append(
                b"\xc0\x0c" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data
            )
    code = 0 if ".".join(labels) in NAMES else 3
    head = question[:2] + bytes([0x85, 0x80 | code]) + b"\0\1" + len(records).to_bytes(2, "big") + bytes(4)
    return head + question[12:end] + b"".join(records)
