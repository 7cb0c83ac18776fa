"""The pod's resolver: a forwarder in the shim's loop, bound in the pod's own network at 127.0.0.53:53.

It asks the host's resolvers from the host's network and empties answers with addresses that pods may not reach (DNS
rebinding). Called by the shim: `serve_names(network, loop)` once the network is open. The shim has no asyncio (it
would cost each launch 45 ms and each pod 9 MB): `loop.Loop` has add_reader, remove, call_later (agreed with CORE).

A question over UDP is asked on a socket of its own, with a number of ours; one over TCP likewise. There are at most
`_QUESTIONS` on their way at a time, and `_STREAMS` connections: a pod that asks more is told so, nobody else is.
"""

import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from neuropod.runtimes.local import dnswords
from neuropod.runtimes.local.loop import Loop, Timer
from neuropod.runtimes.local.netplan import NAME_SERVER, PodNetwork
from neuropod.runtimes.local.rootnet import resolvers

_PORT = 53
_QUESTIONS = 64
_STREAMS = 16
_TRY_SECONDS = 1.5  # per resolver; pods' own resolvers wait 5
_TRIES = 3
_STREAM_SECONDS = 10.0
_RESOLV_CONF = Path("/etc/resolv.conf")

Answered = Callable[[bytes | None], None]


class NameServer:
    """A running forwarder."""

    def __init__(self, network: PodNetwork, loop: Loop, *, port: int = _PORT) -> None:
        self._network = network
        self._loop = loop
        self._upstream = _Resolvers()
        self._asked: set[_Datagram | _Inquiry] = set()
        self._streams: set[_Stream] = set()
        with network.inside():
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._udp.bind((NAME_SERVER, port))
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._tcp.bind((NAME_SERVER, port))
            self._tcp.listen(_STREAMS)
        except BaseException:
            self._udp.close()
            self._tcp.close()
            raise
        loop.add_reader(self._udp.fileno(), self._datagram)
        loop.add_reader(self._tcp.fileno(), self._accepted)

    def close(self) -> None:
        """Stop answering; may be repeated."""
        for each in (*self._asked, *self._streams):
            each.close()
        for listener in (self._udp, self._tcp):
            self._loop.remove(listener.fileno())
            listener.close()

    def _datagram(self) -> None:
        try:
            question, asker = self._udp.recvfrom(65535)
        except OSError:
            return

        def answered(answer: bytes | None) -> None:
            answer = dnswords.failure(question) if answer is None else answer
            with suppress(OSError):
                self._udp.sendto(dnswords.fitting(question, answer), asker)

        if not dnswords.is_question(question):
            return
        self.ask(question, answered, stream=False)

    def ask(self, question: bytes, answered: Answered, *, stream: bool) -> "_Datagram | _Inquiry | None":
        """Ask the host's resolvers and call back once, with None when none of them answered."""
        servers = self._upstream.now()
        if not self._network.internet or not servers or len(self._asked) >= _QUESTIONS:
            answered(None)
            return None

        def ended(answer: bytes | None) -> None:
            self._asked.discard(asking)
            if answer is not None and dnswords.has_refused_address(answer, self._network.egress_allow):
                answer = dnswords.emptied(question)
            answered(answer)

        kind = _Inquiry if stream else _Datagram
        asking = kind(self._network, self._loop, servers, question, ended)
        self._asked.add(asking)
        asking.start()
        return asking

    def _accepted(self) -> None:
        try:
            connection, _ = self._tcp.accept()
        except OSError:
            return
        if len(self._streams) >= _STREAMS:
            connection.close()
            return
        connection.setblocking(False)
        self._streams.add(_Stream(self, self._loop, connection, self._streams.discard))


class _Resolvers:
    """The host's resolvers as they are now: a laptop changes its network under a running pod."""

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None
        self._servers: list[str] = []

    def now(self) -> list[str]:
        try:
            facts = _RESOLV_CONF.stat()
        except OSError:
            return self._servers
        if self._seen != (facts.st_mtime_ns, facts.st_ino):
            self._seen = (facts.st_mtime_ns, facts.st_ino)
            self._servers = resolvers(_RESOLV_CONF) or ["127.0.0.1"]
        return self._servers


class _Asking:
    """One question on its way to one resolver after the other."""

    kind: socket.SocketKind

    def __init__(self, network: PodNetwork, loop: Loop, servers: list[str], question: bytes, ended: Answered) -> None:
        self._network = network
        self._loop = loop
        self._servers = servers
        self._number = secrets.token_bytes(2)
        self._question = question
        self._ended: Answered | None = ended
        self._try = 0
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None

    def start(self) -> None:
        """Ask the first."""
        self._next()

    def _next(self) -> None:
        self._drop()
        if self._try >= max(_TRIES, len(self._servers)):
            self._end(None)
            return
        server = self._servers[self._try % len(self._servers)]
        self._try += 1
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        self._socket = self._network.outside(family, self.kind)
        if self._socket is None:
            self._end(None)
            return
        self._timer = self._loop.call_later(_TRY_SECONDS, self._next)
        try:
            self._begin(self._socket, server)
        except OSError:
            self._failed()

    def _failed(self) -> None:
        """Go on to the next resolver, from the loop and not from within: there may be many."""
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(0.05, self._next)

    def _begin(self, connection: socket.socket, server: str) -> None:
        raise NotImplementedError

    def _taken(self, answer: bytes) -> bool:
        """End with this answer if it is one to our question."""
        if answer[:2] != self._number or not dnswords.answers(self._question, answer):
            return False
        self._end(self._question[:2] + answer[2:])
        return True

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
            self._network.give_back(self._socket)
            self._socket = None

    def _end(self, answer: bytes | None) -> None:
        self._drop()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(answer)

    def close(self) -> None:
        """Give up, unheard."""
        self._ended = None
        self._drop()


class _Datagram(_Asking):
    """Over UDP."""

    kind = socket.SOCK_DGRAM

    def _begin(self, connection: socket.socket, server: str) -> None:
        connection.connect((server, 53))  # so that only this server's answers arrive
        connection.send(self._number + self._question[2:])
        self._loop.add_reader(connection.fileno(), self._read)

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            answer = self._socket.recv(65535)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there
            self._failed()
            return
        self._taken(answer)


class _Inquiry(_Asking):
    """Over TCP, where the answer was too long."""

    kind = socket.SOCK_STREAM

    def _begin(self, connection: socket.socket, server: str) -> None:
        self._heard = b""
        with suppress(BlockingIOError):
            connection.connect((server, 53))
        self._loop.add_writer(connection.fileno(), self._connected)

    def _connected(self) -> None:
        if self._socket is None:
            return
        try:
            question = self._number + self._question[2:]
            self._socket.send(dnswords.for_stream(question))
        except OSError:
            self._failed()
            return
        self._loop.add_reader(self._socket.fileno(), self._read)

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(65537)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard += data
        if (first := dnswords.first_of_stream(self._heard)) is not None:
            if not self._taken(first[0]):
                self._failed()
        elif not data:
            self._failed()


class _Stream:
    """A pod's connection: one question after the other."""

    def __init__(
        self, server: NameServer, loop: Loop, connection: socket.socket, ended: Callable[["_Stream"], None]
    ) -> None:
        self._server = server
        self._loop = loop
        self._connection = connection
        self._ended = ended
        self._heard = b""
        self._unsent = b""
        self._timer = loop.call_later(_STREAM_SECONDS, self.close)
        loop.add_reader(connection.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._connection.recv(65537)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._heard += data
        if (first := dnswords.first_of_stream(self._heard)) is not None:
            self._loop.remove(self._connection.fileno())  # until this one is answered
            question, self._heard = first
            if not dnswords.is_question(question):
                self.close()
                return
            self._server.ask(question, lambda answer: self._answer(question, answer), stream=True)
        elif not data:
            self.close()

    def _answer(self, question: bytes, answer: bytes | None) -> None:
        if self._connection.fileno() < 0:
            return
        answer = dnswords.failure(question) if answer is None else answer
        self._unsent = dnswords.for_stream(answer)
        self._loop.add_writer(self._connection.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._unsent:
            self._timer.cancel()
            self._timer = self._loop.call_later(_STREAM_SECONDS, self.close)
            self._loop.add_reader(self._connection.fileno(), self._read)
            if self._heard:
                self._loop.call_later(0, self._read_rest)

    def _read_rest(self) -> None:
        if self._connection.fileno() >= 0 and self._heard:
            self._read()

    def close(self) -> None:
        """Let go."""
        self._timer.cancel()
        if (fd := self._connection.fileno()) >= 0:
            self._loop.remove(fd)
            self._connection.close()
        self._ended(self)


def serve_names(network: PodNetwork, loop: Loop) -> NameServer:
    """Start answering the pod's questions. Where the network has no internet it answers SERVFAIL at once.

    Never raises for the internet's sake and never blocks; the pod's launch waits for it.
    """
    return NameServer(network, loop)
