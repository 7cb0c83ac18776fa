"""SECURITY 22: one request is one request to everybody on its way. A corpus, sent directly and through Traefik."""

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

from neuropod.words import Access
from support.gateway import Recorder, parse, serving, until
from support.ports import free_port

HIDDEN = b"GET /hidden/{number}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"

# What hides a second request in the first, in one server's eyes or another's: none may reach a pod.
CORPUS = {
    "length and chunks": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunks and length": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n" + HIDDEN,
    "the same length twice": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0, 0\r\n\r\n" + HIDDEN,
    "a length with a sign": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: +0\r\n\r\n" + HIDDEN,
    "a negative length": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: -1\r\n\r\n" + HIDDEN,
    "a length in hex": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0x0\r\n\r\n" + HIDDEN,
    "a length without digits": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length:\r\n\r\n" + HIDDEN,
    "a length too large": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999999999999999\r\n\r\n" + HIDDEN,
    "another coding": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a coding before": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a coding after": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two codings": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked twice": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "quoted chunked": b'POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n' + HIDDEN,
    "chunked with a parameter": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked;x=y\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked with a vertical tab": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a coding with a space before the colon": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a folded coding": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a folded header": b"POST / HTTP/1.1\r\nHost: {host}\r\nX: a\r\n Content-Length: 40\r\n\r\n" + HIDDEN,
    "bare line feeds": b"POST / HTTP/1.1\nHost: {host}\nContent-Length: 0\n\n" + HIDDEN,
    "one bare line feed": b"POST / HTTP/1.1\r\nHost: {host}\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a bare carriage return": b"POST / HTTP/1.1\r\nHost: {host}\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a NUL in a name": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding\x00: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "a NUL in a value": b"POST / HTTP/1.1\r\nHost: {host}\r\nX: a\x00\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a nameless header": b"POST / HTTP/1.1\r\nHost: {host}\r\n: chunked\r\n\r\n" + HIDDEN,
    "a line without a colon": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding\r\n\r\n" + HIDDEN,
    "a chunk size in 0x": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + HIDDEN,
    "a chunk size with a sign": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + HIDDEN,
    "a negative chunk": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + HIDDEN,
    "an endless chunk size": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" + HIDDEN,
    "a chunk without its end": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naX0\r\n\r\n" + HIDDEN,
    "chunks with line feeds": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0\n\n" + HIDDEN,
    "a chunk extension that ends early": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n0;x\ny\r\n\r\n" + HIDDEN,
    "an upgrade with a request behind it": b"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + HIDDEN,
    "an upgrade with a body": b"POST / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 40\r\n\r\n" + HIDDEN,
    "HTTP/2 without TLS": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "an unknown version": b"GET / HTTP/1.2\r\nHost: {host}\r\n\r\n" + HIDDEN,
    "HTTP/0.9": b"GET /\r\n" + HIDDEN,
}  # fmt: skip

# What is in order and must stay one request each.
IN_ORDER = {
    "a body that looks like a request": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n" + HIDDEN,
    "chunks that look like a request": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{hexlength}\r\n" + HIDDEN + b"\r\n0\r\n\r\n",
    "chunk extensions and trailers": b"POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1;a=b\r\nx\r\n0\r\nContent-Length: 5\r\nX-Neuropod-Key: k\r\n\r\n",
    "Connection names the framing": b"POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close, content-length, transfer-encoding\r\nContent-Length: {length}\r\n\r\n" + HIDDEN,
    "aliases of the framing": b"POST / HTTP/1.1\r\nHost: {host}\r\nContent_Length: 0\r\nTransfer_Encoding: chunked\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n" + HIDDEN,
    "an expectation": b"POST / HTTP/1.1\r\nHost: {host}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n" + HIDDEN,
}  # fmt: skip


def _filled(raw: bytes, host: str, number: int = 100) -> bytes:
    length = len(HIDDEN) - len(b"{number}{host}") + len(f"{number}{host}")
    values = {
        b"{length}": b"%d" % length,
        b"{hexlength}": b"%x" % length,
        b"{host}": host.encode(),
        b"{number}": b"%d" % number,
    }
    for name, value in values.items():
        raw = raw.replace(name, value)
    return raw


class _Pod:
    """Takes every byte that comes, as a careless server would, and keeps it."""

    def __init__(self):
        self.streams = []

    async def __call__(self, reader, writer):
        got = bytearray()
        self.streams.append(got)
        while data := await reader.read(65536):
            got += data
            if b"\r\n\r\n" in got:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()

    @property
    def heads(self) -> list[bytes]:
        """The heads of requests that a strict reader finds in what came, with bodies skipped."""
        return [head for stream in self.streams for head in _heads(bytes(stream))]


def _heads(stream: bytes) -> list[bytes]:
    heads = []
    while stream:
        head, separator, stream = stream.partition(b"\r\n\r\n")
        if not separator:
            break
        heads.append(head)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if fields.get(b"transfer-encoding") == b"chunked":
            assert b"content-length" not in fields
            while stream:
                size, _, stream = stream.partition(b"\r\n")
                stream = stream[int(size, 16) + 2 :]
                if int(size, 16) == 0:
                    break
        else:
            stream = stream[int(fields.get(b"content-length", b"0")) :]
    return heads


@contextlib.asynccontextmanager
async def _straight(served, tmp_path):
    yield served.port


@contextlib.asynccontextmanager
async def _through_traefik(served, tmp_path):
    """Put Traefik in front, as an operator would."""
    port = free_port()
    routes = tmp_path / "routes.yml"
    routes.write_text(
        "http:\n  routers:\n    all: {rule: 'PathPrefix(`/`)', service: gateway, entryPoints: [web]}\n"
        f"  services:\n    gateway: {{loadBalancer: {{servers: [{{url: 'http://127.0.0.1:{served.port}'}}]}}}}\n"
    )
    traefik = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "traefik"), f"--entryPoints.web.address=127.0.0.1:{port}",
        f"--providers.file.filename={routes}", "--log.level=ERROR", "--global.checkNewVersion=false",
        "--global.sendAnonymousUsage=false", cwd=tmp_path, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    answer = await _send(
                        port, b"GET /healthz HTTP/1.1\r\nHost: app.neuropod.localhost\r\nConnection: close\r\n\r\n"
                    )
                    if answer.startswith(b"HTTP/1.1 200"):
                        break
                await asyncio.sleep(0.05)
        served.asgi_requests.clear()
        yield port
    finally:
        traefik.terminate()
        await traefik.wait()


async def _send(port: int, raw: bytes, seconds: float = 4.0) -> bytes:
    """Send bytes and return what comes until the end, or for a while where a proxy waits for more."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            writer.write(raw)
            while data := await reader.read(65536):
                answer += data
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return bytes(answer)


WAYS = pytest.mark.parametrize("way", [_straight, _through_traefik], ids=["directly", "traefik"])


@WAYS
async def test_no_hidden_request_reaches_a_pod(way, tmp_path):
    async with serving() as served:
        pod = _Pod()
        route = await served.pod(pod, access=Access.PUBLIC)
        async with way(served, tmp_path) as port:
            numbered = list(enumerate(CORPUS.values()))
            answers = await asyncio.gather(*(_send(port, _filled(raw, route.host, number)) for number, raw in numbered))

        for (number, what), answer in zip(enumerate(CORPUS), answers, strict=True):
            hidden = sum(b"/hidden/%d/" % number in head.split(b"\r\n")[0] for head in pod.heads)
            if way is _straight:
                assert answer[:10] in {b"HTTP/1.1 4", b"HTTP/1.1 5"}, what
                assert answer.count(b"HTTP/1.1 ") == 1, what
                assert hidden == 0, what
            else:
                # Traefik mends some of them (the same length twice, say). Then both requests stand in plain sight, and
                # both are answered to the client: nobody's answer is left over for somebody else.
                assert hidden == 0 or answer.count(b" 200 OK\r\n") == 1 + hidden, what
        for stream in pod.streams:
            assert all(head.split(b"\r\n")[0].endswith(b"HTTP/1.1") for head in _heads(bytes(stream)))


@WAYS
async def test_bodies_that_look_like_requests_stay_bodies(way, tmp_path):
    async with serving() as served:
        pod = _Pod()
        route = await served.pod(pod, access=Access.PUBLIC)
        async with way(served, tmp_path) as port:
            for what, raw in IN_ORDER.items():
                answer = await _send(port, _filled(raw, route.host), 5)
                assert b"HTTP/1.1 200" in answer or b" 400 " in answer, what

        assert pod.heads
        assert all(head.startswith(b"POST / HTTP/1.1\r\n") for head in pod.heads)
        assert not any(b"x-neuropod-key" in head.lower() for head in pod.heads)


ANSWERS = {
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a bare carriage return": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 1\r\n\r\na",
    "a bare line feed": b"HTTP/1.1 200 OK\nContent-Length: 1\n\na",
    "a folded header": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a status that is none": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 400_000,
}


@pytest.mark.parametrize("what", ANSWERS)
async def test_an_answer_in_doubt_is_not_passed_on(what):
    async def pod(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWERS[what])
        await reader.read()

    async with serving() as served:
        route = await served.pod(pod, access=Access.PUBLIC)

        answer = await served.ask(route)

        assert answer.status == 502
        assert answer["set-cookie"] is None


async def test_bytes_behind_an_answer_are_not_the_next_ones():
    async def pod(reader, writer):
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 30\r\n\r\nHTTP/1.1 200 OK\r\nX-Evil: 1\r\n\r\n")

    async with serving() as served:
        route = await served.pod(pod, access=Access.PUBLIC)

        raw = await served.raw(served.head(route) * 2 + served.head(route, "GET / HTTP/1.1", "Connection: close"))

        assert raw.count(b"HTTP/1.1 204") == 3
        assert b"X-Evil" not in raw


async def test_a_head_that_is_too_large_or_comes_in_too_small_pieces_is_refused():
    async with serving() as served:
        route = await served.pod(_Pod(), access=Access.PUBLIC)
        head = served.head(route)[:-2]

        large = await served.raw(head + b"X: " + b"a" * (1 << 20) + b"\r\n" + b"Y: " + b"b" * (1 << 20) + b"\r\n\r\n")
        many = await served.raw(head + b"X: a\r\n" * 2000 + b"\r\n")

        assert parse(large).status == 431
        assert parse(many).status == 431


async def test_chunk_extensions_and_trailers_without_end_are_refused():
    async with serving() as served:
        route = await served.pod(Recorder(), access=Access.PUBLIC)
        head = served.head(route, "POST / HTTP/1.1", "Transfer-Encoding: chunked")

        extension = await served.raw(head + b"1;" + b"x" * (1 << 20))
        trailer = await served.raw(head + b"1\r\na\r\n0\r\nX: " + b"x" * (1 << 20))

        assert parse(extension).status == 400
        assert parse(trailer).status == 400
        await until(lambda: len(served.gateway.streams) == 0, "the requests to end")
