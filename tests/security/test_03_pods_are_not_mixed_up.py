"""SECURITY 3: a connection, a cookie or a redirect of one pod never serves another, nor one visitor another."""

import asyncio

from neuropod.words import Access
from support.gateway import Recorder, answering, read_request, serving


def _telling(name: bytes):
    """A pod that says who it is, on connections that it keeps."""

    async def handle(reader, writer):
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name))

    return handle


async def test_interleaved_requests_over_one_connection_reach_each_its_own_pod():
    async with serving() as served:
        served.key()
        routes = {name: await served.pod(_telling(name.encode()), name) for name in ("alpha", "bravo", "carol")}
        reader, writer = await served.connect()

        for name in ["alpha", "bravo", "alpha", "carol", "carol", "bravo", "alpha"] * 20:
            writer.write(served.head(routes[name]))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 " in head
            assert await reader.readexactly(5) == name.encode()

        assert served.runtime.dials == 3


async def test_a_next_incarnation_on_the_very_same_address_gets_no_connection_of_the_last_one():
    async with serving() as served:
        served.key()
        pod = Recorder()
        route = await served.pod(pod)
        address = served.runtime.listening[route.pod_id, 1, route.port]
        await served.ask(route)
        await served.ask(route)
        assert pod.connections == 1

        served.runtime.listening = {(route.pod_id, 2, route.port): address}
        served.serve(route, incarnation=2)
        answer = await served.ask(route)

        assert answer.status == 200
        assert pod.connections == 2


async def test_concurrent_visitors_get_their_own_answers():
    async def pod(reader, writer):
        while True:
            start, _, _ = await read_request(reader)
            await asyncio.sleep(0.001)
            path = start.split(" ")[1].encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with serving() as served:
        served.key()
        route = await served.pod(pod)

        async def visit(visitor: int):
            reader, writer = await served.connect()
            for number in range(20):
                writer.write(served.head(route, f"GET /{visitor}/{number} HTTP/1.1"))
                expected = f"/{visitor}/{number}".encode()
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(len(expected)) == expected

        async with asyncio.timeout(30):
            await asyncio.gather(*(visit(visitor) for visitor in range(25)))


async def test_one_visitors_cookie_is_not_sent_for_another():
    async with serving() as served:
        served.key()
        pod = Recorder()
        route = await served.pod(_cookies_of(pod))

        await served.ask(route, "GET / HTTP/1.1", "Cookie: own=first")
        answer = await served.ask(route, "GET / HTTP/1.1")

        assert answer["set-cookie"] == "given=1"
        assert pod.sent("cookie") == []


def _cookies_of(recorder: Recorder):
    async def handle(reader, writer):
        while True:
            recorder.requests.append(await read_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: given=1\r\nContent-Length: 0\r\n\r\n")

    return handle


async def test_a_redirect_is_the_visitors_to_follow():
    async with serving() as served:
        secret = Recorder()
        served.route_to((await _listening(served, secret)), "secret", owner_id="usr_other")
        route = await served.pod(
            answering(b"", "Location: http://127.0.0.1:1/", status="302 Found"), access=Access.PUBLIC
        )

        answer = await served.ask(route)

        assert answer.status == 302
        assert answer["location"] == "http://127.0.0.1:1/"
        assert secret.requests == []


async def _listening(served, pod):
    return served.runtime.listening[(route := await served.pod(pod, "probe")).pod_id, 1, route.port]


async def test_what_a_pod_sends_unasked_is_nobodys_answer():
    async def pod(reader, writer):
        while True:
            await read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    async with serving() as served:
        served.key()
        route = await served.pod(pod)

        for _ in range(10):
            assert (await served.ask(route)).content == b"ok"

        assert served.runtime.dials == 10
