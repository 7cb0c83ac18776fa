"""Requests carried to pods and answers carried back, over real sockets."""

import asyncio
import contextlib
import hashlib
import os

import pytest

from neuropod.words import Access, Status
from support.gateway import Recorder, answering, parse, read_request, serving, until


async def test_a_request_with_a_key_reaches_the_pod_and_its_answer_comes_back():
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"hello"))

        answer = await served.ask(route)

        assert answer.status == 200
        assert answer.content == b"hello"


async def test_connections_are_kept_on_both_sides():
    async with serving() as served:
        served.key()
        pod = Recorder()
        route = await served.pod(pod)
        reader, writer = await served.connect()

        for _ in range(5):
            writer.write(served.head(route))
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()

        assert len(pod.requests) == 5
        assert pod.connections == 1


async def test_pipelined_requests_to_different_hosts_are_answered_in_order():
    async with serving() as served:
        served.key()
        first = await served.pod(_slow(b"first"), "one")
        second = await served.pod(answering(b"second"), "two")
        console = b"GET /console HTTP/1.1\r\nHost: app.neuropod.localhost\r\n\r\n"
        last = served.head(second, "GET / HTTP/1.1", "Connection: close")

        answer = await served.raw(served.head(first) + served.head(second) + console + served.head(first) + last)

        places = [
            answer.index(b"first"),
            answer.index(b"second"),
            answer.index(b"<title>console"),
            answer.rindex(b"first"),
        ]
        assert places == sorted(places)
        assert answer.count(b"HTTP/1.1 200") == 5
        assert answer.endswith(b"second")


async def test_a_thousand_pipelined_requests_are_answered():
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"x"))
        unknown = b"GET / HTTP/1.1\r\nHost: nobody-aaaaaaaa-1.neuropod-pods.localhost\r\n\r\n"

        answer = await served.raw(
            unknown * 500 + served.head(route) * 500 + served.head(route, "GET / HTTP/1.1", "Connection: close"),
            seconds=30,
        )

        assert answer.count(b"HTTP/1.1 404") == 500
        assert answer.count(b"HTTP/1.1 200") == 501


def _slow(body: bytes):
    async def handle(reader, writer):
        while True:
            await read_request(reader)
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return handle


# ---- framing


async def test_a_chunked_answer_is_chunked_anew_and_complete():
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: dropped\r\n\r\n"
        )
        await reader.read()

    async with serving() as served:
        served.key()

        answer = await served.ask(await served.pod(pod))

        assert answer["transfer-encoding"] == "chunked"
        assert answer.content == b"abcde"
        assert b"dropped" not in answer.raw


async def test_an_answer_until_the_connection_ends_becomes_chunks():
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000)

    async with serving() as served:
        served.key()

        answer = await served.ask(await served.pod(pod))

        assert answer.content == b"x" * 100_000


@pytest.mark.parametrize(
    ("start", "answer_head", "length"),
    [
        ("HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", "12345"),
        ("HEAD / HTTP/1.1", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET / HTTP/1.1", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET / HTTP/1.1", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 12345\r\nETag: a\r\n\r\n", "12345"),
    ],
)
async def test_answers_without_a_body_leave_both_connections_in_order(start, answer_head, length):
    async def pod(reader, writer):
        while True:
            first, _, _ = await read_request(reader)
            writer.write(answer_head if first == start else b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext")

    async with serving() as served:
        served.key()
        route = await served.pod(pod)

        raw = await served.raw(
            served.head(route, start) + served.head(route, "GET /next HTTP/1.1", "Connection: close")
        )

        head, _, rest = raw.partition(b"\r\n\r\n")
        assert parse(head + b"\r\n\r\n")["content-length"] == length
        assert parse(rest).content == b"next"
        assert served.runtime.dials == 1


async def test_an_http_1_0_client_gets_the_body_until_the_connection_ends():
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        await reader.read()

    async with serving() as served:
        served.key()
        route = await served.pod(pod)

        answer = parse(await served.raw(served.head(route, "GET / HTTP/1.0")))

        assert answer["transfer-encoding"] is None
        assert answer.body == b"abc"


async def test_interim_answers_are_kept_from_the_client():
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()

    async with serving() as served:
        served.key()

        answer = await served.ask(await served.pod(pod))

        assert answer.status == 200
        assert answer.content == b"ok"
        assert answer["link"] is None


# ---- streaming


async def test_events_arrive_as_they_are_sent():
    proceed = asyncio.Event()

    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
        await proceed.wait()
        writer.write(b"data: two\n\n")

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        reader, writer = await served.connect()
        writer.write(served.head(route, "GET / HTTP/1.1", "Connection: close"))

        async with asyncio.timeout(5):
            await reader.readuntil(b"data: one\n\n")
            proceed.set()
            await reader.readuntil(b"data: two\n\n")
            assert (await reader.read()).endswith(b"0\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_bodies_pass_whole_in_both_directions(chunked):
    content = os.urandom(1024 * 1024) * 40
    digest = hashlib.sha256(content).hexdigest()
    got = hashlib.sha256()

    async def pod(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        left = len(content)
        while left:
            if chunked:
                size = int((await reader.readuntil(b"\r\n")).strip(), 16)
                data = (await reader.readexactly(size + 2))[:-2]
            else:
                data = await reader.read(65536)
            got.update(data)
            left -= len(data)
        assert (b"chunked" in head) == chunked
        writer.write(b"HTTP/1.1 200 OK\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % len(content))
        for start in range(0, len(content), 1 << 20):
            part = content[start : start + (1 << 20)]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(content)}"
        body = b"".join(
            b"%x\r\n%b\r\n" % (1 << 20, content[i : i + (1 << 20)]) for i in range(0, len(content), 1 << 20)
        )

        answer = parse(
            await served.raw(
                served.head(route, "PUT /file HTTP/1.1", framing, "Connection: close"),
                body + b"0\r\n\r\n" if chunked else content,
                seconds=60,
            )
        )

        assert got.hexdigest() == digest
        assert hashlib.sha256(answer.content).hexdigest() == digest


async def test_an_upload_that_the_pod_does_not_read_is_not_held_by_the_gateway():
    async def pod(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(60)

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        _reader, writer = await served.connect()
        writer.write(served.head(route, "PUT / HTTP/1.1", f"Content-Length: {1 << 34}"))
        sent = 0

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                while sent < 1 << 30:
                    writer.write(bytes(1 << 20))
                    await writer.drain()
                    sent += 1 << 20

        assert sent < 48 << 20  # what the kernel's buffers on both sides take, and no more
        writer.transport.abort()


async def test_an_answer_that_the_client_does_not_read_is_not_held_by_the_gateway():
    sent = 0

    async def pod(reader, writer):
        nonlocal sent
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 1 << 30:
            writer.write(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
            await writer.drain()
            sent += 1 << 20

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        _, writer = await served.connect()
        writer.transport.pause_reading()
        writer.write(served.head(route))

        await until(lambda: sent > 0, "the pod to send")
        await asyncio.sleep(1)

        assert sent < 48 << 20
        writer.transport.abort()


# ---- the body's way


async def test_who_expects_100_continue_gets_it_once_the_pod_can_be_reached():
    async with serving() as served:
        served.key()
        pod = Recorder()
        route = await served.pod(pod)
        reader, writer = await served.connect()
        writer.write(served.head(route, "POST / HTTP/1.1", "Content-Length: 3", "Expect: 100-continue"))

        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc")
            await reader.readuntil(b"ok")
        writer.close()

        assert pod.requests[-1][2] == b"abc"
        assert pod.sent("expect") == []


async def test_who_expects_100_continue_and_may_not_pass_sends_no_body():
    async with serving() as served:
        route = await served.pod(Recorder())

        answer = parse(
            await served.raw(served.head(route, "POST / HTTP/1.1", "Content-Length: 3", "Expect: 100-continue"))
        )

        assert answer.status == 401
        assert answer["connection"] == "close"


async def test_an_answer_that_comes_before_the_upload_is_over_reaches_the_client():
    async def pod(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 5\r\n\r\nlarge")
        await writer.drain()

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        reader, writer = await served.connect()
        writer.write(served.head(route, "PUT / HTTP/1.1", f"Content-Length: {1 << 30}"))

        async def send() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(bytes(1 << 16))
                    await writer.drain()

        sending = asyncio.create_task(send())
        async with asyncio.timeout(5):
            answer = parse(await reader.readuntil(b"large"))
        sending.cancel()

        assert answer.status == 413
        assert answer["connection"] == "close"
        writer.transport.abort()


async def test_a_broken_chunk_ends_the_pods_side_too():
    ended = asyncio.Event()

    async def pod(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await read_request(reader)
        ended.set()

    async with serving() as served:
        served.key()
        route = await served.pod(pod)

        answer = parse(
            await served.raw(
                served.head(route, "POST / HTTP/1.1", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n", b"zz\r\n"
            )
        )

        assert answer.status == 400
        async with asyncio.timeout(5):
            await ended.wait()


# ---- when a side dies


@pytest.mark.parametrize(
    ("head", "start"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "GET / HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", "GET / HTTP/1.0"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "GET / HTTP/1.1"),
    ],
)
async def test_an_answer_whose_pod_died_does_not_look_complete(head, start):
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(head)

    async with serving() as served:
        served.key()
        route = await served.pod(pod)

        answer = parse(await served.raw(served.head(route, start)))

        assert b"abc" in answer.body
        assert not answer.body.endswith(b"0\r\n\r\n")
        assert answer["content-length"] in {None, "100"}


async def test_a_chunked_answer_cut_short_resets_an_http_1_0_client():
    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        reader, writer = await served.connect()
        writer.write(served.head(route, "GET / HTTP/1.0"))

        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readuntil(b"never"), 5)
        writer.close()


async def test_a_pod_that_ends_without_an_answer_is_a_502():
    async def pod(reader, writer):
        await read_request(reader)

    async with serving() as served:
        served.key()

        answer = await served.ask(await served.pod(pod))

        assert answer.status == 502


async def test_an_idle_connection_that_the_pod_has_closed_is_not_the_clients_trouble():
    requests = 0

    async def pod(reader, writer):
        nonlocal requests
        await read_request(reader)
        requests += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")  # and closes, without having said so

    async with serving() as served:
        served.key()
        route = await served.pod(pod)

        for _ in range(20):
            assert (await served.ask(route)).status == 200

        assert requests == 20


async def test_a_client_that_goes_takes_the_pods_side_with_it():
    gone = asyncio.Event()

    async def pod(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        gone.set()

    async with serving() as served:
        served.key()
        route = await served.pod(pod)
        reader, writer = await served.connect()
        writer.write(served.head(route))
        await reader.readuntil(b"abc")

        writer.transport.abort()

        async with asyncio.timeout(5):
            await gone.wait()
        await until(lambda: len(served.gateway.streams) == 0, "the exchange to end")


# ---- where it leads


async def test_a_port_where_nothing_listens_is_a_page_that_tries_again():
    async with serving() as served:
        served.key()
        route = await served.pod(answering())
        served.runtime.listening.clear()

        answer = await served.ask(route, "GET / HTTP/1.1", "Accept: text/html")

        assert answer.status == 503
        assert answer["retry-after"] == "2"
        assert b"Nothing answers on port 8888" in answer.body
        assert b'http-equiv="refresh"' in answer.body


async def test_a_port_that_does_not_accept_in_time_is_a_504():
    async with serving(gateway={"connect_timeout_seconds": 0.2}) as served:
        served.key()
        route = await served.pod(answering())

        async def never(*_):
            await asyncio.sleep(60)

        served.runtime.connect = never
        answer = await served.ask(route)

        assert answer.status == 504


async def test_a_new_incarnation_is_reached_and_the_old_one_is_not():
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"old"))
        assert (await served.ask(route)).content == b"old"
        stopped = served.serve(route, incarnation=None, status=Status.STOPPED)

        assert (await served.ask(stopped)).status == 503

        await served.pod(answering(b"new"), pod_id=route.pod_id, incarnation=2)
        assert (await served.ask(route)).content == b"new"


async def test_other_hosts_go_to_the_asgi_app():
    async with serving() as served:
        answer = parse(
            await served.raw(
                b"POST /api HTTP/1.1\r\nHost: api.neuropod.localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
            )
        )

        assert answer.status == 200
        assert served.asgi_requests[0]["path"] == "/api"
        assert served.asgi_requests[0]["body"] == b"abc"


async def test_health_checks_are_answered_on_any_host_but_a_pods_own():
    async with serving() as served:
        served.key()
        route = await served.pod(answering(b"the pod's"), access=Access.PUBLIC)

        own = await served.ask(route, "GET /healthz HTTP/1.1")
        other = parse(
            await served.raw(b"GET /healthz HTTP/1.1\r\nHost: x.neuropod-pods.localhost\r\nConnection: close\r\n\r\n")
        )

        assert own.content == b"the pod's"
        assert b"console" in other.content
