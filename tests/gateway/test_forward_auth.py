"""The gate asked by a carrier: through a real Traefik with forwardAuth, and as controllers of the nginx class ask."""

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidStatus

from neuropod.accounts.visitors import Visitor
from neuropod.gateway.carriers.style import check_path, question_path
from neuropod.words import Access, Role, Status
from support.gateway import OWNER, Recorder, parse, serving, until
from support.ports import free_port
from support.rows import NOW
from support.tickets import Browser, console_session, reference_of, ticket_for
from support.traefik import asked_gate, through_traefik

PAGE = ("Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none")


# ---- who passes, through Traefik


PASSES = [
    (Access.PRIVATE, OWNER, Role.CLIENT, 200),
    (Access.PRIVATE, "usr_other", Role.CLIENT, 403),
    (Access.PRIVATE, "usr_other", Role.ADMIN, 200),
    (Access.MEMBERS, "usr_other", Role.CLIENT, 200),
    (Access.PUBLIC, "usr_other", Role.CLIENT, 200),
    (Access.PRIVATE, None, None, 401),
    (Access.MEMBERS, None, None, 401),
    (Access.PUBLIC, None, None, 200),
]


async def test_who_passes_to_which_port(tmp_path):
    async with asked_gate(port := free_port()) as served:
        pods = {access: Recorder() for access in Access}
        routes = {access: await served.pod(pod, f"pod-{access}", access=access) for access, pod in pods.items()}
        async with through_traefik(tmp_path, served, port, *routes.values()) as through:
            for access, user_id, role, status in PASSES:
                key = None if user_id is None else served.key(f"of-{user_id}-{role}", user_id=user_id, role=role)
                pods[access].requests.clear()

                answer = await through.ask(routes[access], key=key)

                assert answer.status == status, (access, user_id, role)
                assert len(pods[access].requests) == (status == 200)


WILLS = [
    (("Sec-Fetch-Site: none",), 200),
    (("Sec-Fetch-Site: same-origin",), 200),
    (("Sec-Fetch-Site: same-site",), 403),
    (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"), 200),
    (("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"), 403),
    (("Origin: http://evil.neuropod-pods.localhost", "Sec-Fetch-Site: same-site"), 403),
    (("Origin: null", "Sec-Fetch-Site: same-site"), 403),
    ((), 403),
]


async def test_a_pass_alone_opens_nothing(tmp_path):
    """SECURITY 17."""
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = await served.pod(pod)
        cookie = served.signed_in(route)
        async with through_traefik(tmp_path, served, port, route) as through:
            for headers, status in WILLS:
                pod.requests.clear()

                answer = await through.ask(route, "GET / HTTP/1.1", f"Cookie: {cookie}", *headers, key=None)

                assert answer.status == status, headers
                assert len(pod.requests) == (status == 200)


async def test_a_post_passes_with_its_own_origin_alone_and_its_body_arrives(tmp_path):
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = await served.pod(pod)
        cookie = served.signed_in(route)
        async with through_traefik(tmp_path, served, port, route) as through:
            own = await through.ask(
                route, "POST /a?b=c HTTP/1.1", f"Cookie: {cookie}", f"Origin: {served.origin(route)}",
                "Content-Length: 5", body=b"hello", key=None,
            )  # fmt: skip
            navigated = await through.ask(
                route, "POST / HTTP/1.1", f"Cookie: {cookie}", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate",
                "Sec-Fetch-Dest: document", "Content-Length: 0", key=None,
            )  # fmt: skip

        assert (own.status, navigated.status) == (200, 403)
        assert [(start, body) for start, _, body in pod.requests] == [("POST /a?b=c HTTP/1.1", b"hello")]


async def test_preflights_pass_at_public_ports_alone(tmp_path):
    async with asked_gate(port := free_port()) as served:
        private = await served.pod(Recorder(), "one")
        public = await served.pod(Recorder(), "two", access=Access.PUBLIC)
        ask = ("OPTIONS / HTTP/1.1", "Origin: http://evil", "Access-Control-Request-Method: POST")
        async with through_traefik(tmp_path, served, port, private, public) as through:
            assert (await through.ask(private, *ask, key=None)).status == 403
            assert (await through.ask(public, *ask, key=None)).status == 200


# ---- WebSockets


async def test_a_websocket_opens_from_the_pods_own_pages_alone(tmp_path):
    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async with asked_gate(port := free_port()) as served, serve(echo, "127.0.0.1", 0) as server:
        route = served.route_to(server.sockets[0].getsockname())
        cookie = served.signed_in(route)

        def opened(**origin):
            return connect(
                f"ws://{route.host}:{port}/socket", host="127.0.0.1", port=port, proxy=None,
                additional_headers={"Cookie": cookie} | origin,
            )  # fmt: skip

        async with through_traefik(tmp_path, served, port, route):
            async with opened(Origin=served.origin(route)) as connection:
                await connection.send("hello")
                assert await connection.recv() == "hello"
            for origin in ({"Origin": "http://evil.neuropod-pods.localhost"}, {"Origin": "null"}, {}):
                with pytest.raises(InvalidStatus) as refused:
                    await opened(**origin)
                assert refused.value.response.status_code == 403


# ---- signing in


async def test_a_visitor_signs_in_and_comes_back_to_what_they_asked_for(tmp_path, database):
    async with asked_gate(port := free_port(), database.write) as served:
        actor = await console_session(database)
        pod = Recorder()
        route = await served.pod(pod, owner_id=actor.user_id)
        async with through_traefik(tmp_path, served, port, route) as through:
            browser = Browser(through, route)

            first = await browser.get("/lab?x=1")
            assert first.status == 303
            assert first["location"].startswith(f"{served.gateway.addresses.console_origin}/gate/continue?ref=")
            ticket = await ticket_for(served, database, actor, reference_of(first))
            served.visitors.sessions[actor.session_id] = Visitor(actor.user_id, actor.role, session_id=actor.session_id)
            entered = await browser.post_ticket(ticket)
            assert entered.status == 303
            assert entered["location"] == f"{served.origin(route)}/lab?x=1"
            assert pod.requests == []

            again = await browser.get("/lab?x=1")
            assert again.status == 200
            assert pod.requests[0][0] == "GET /lab?x=1 HTTP/1.1"
            assert not [name for name, _ in pod.requests[0][1] if name.lower() == "cookie"]


OWN_PATHS = {
    "/.neuropod/nothing": 404,
    "/.neuropod": 404,
    "/.neuropod/../secret": 401,
    "/%2eneuropod/enter": 404,
    "//.neuropod/enter": 404,
    "/x/../.neuropod/enter": 404,
}


async def test_no_own_path_is_a_way_around_the_gate(tmp_path):
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = await served.pod(pod)
        async with through_traefik(tmp_path, served, port, route) as through:
            seen = {path: (await through.ask(route, f"GET {path} HTTP/1.1", key=None)).status for path in OWN_PATHS}

        assert pod.requests == []
        assert seen == OWN_PATHS


# ---- pods that are not ready


async def test_while_a_pod_is_stopped_its_owner_sees_why_and_a_stranger_signs_in(tmp_path):
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = served.serve(await served.pod(pod), incarnation=None, status=Status.STOPPED, message="Stopped by you.")
        cookie = served.signed_in(route)
        async with through_traefik(tmp_path, served, port, route) as through:
            mine = await through.ask(route, "GET / HTTP/1.1", f"Cookie: {cookie}", *PAGE, key=None)
            by_key = await through.ask(route, key=served.key())
            strangers = await through.ask(route, "GET / HTTP/1.1", *PAGE, key=None)
            program = await through.ask(route, key=None)
            others = await through.ask(route, key=served.key("other", user_id="usr_other"))

        assert mine.status == 503
        assert b"Stopped by you." in mine.content
        assert (by_key.status, b"Stopped by you." in by_key.content) == (503, True)
        assert strangers.status == 303
        assert (program.status, others.status) == (401, 403)
        assert pod.requests == []


async def test_a_carrier_that_has_not_followed_yet_is_answered_as_if_the_visitor_had_come_straight(tmp_path):
    """The pod became ready a moment ago, and the carrier still sends to the gateway."""
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = await served.pod(pod)
        waiting = served.serve(route, incarnation=None, status=Status.STARTING)
        cookie = served.signed_in(route)
        async with through_traefik(tmp_path, served, port, waiting) as through:
            served.serve(route)
            answer = await through.ask(route, "GET / HTTP/1.1", f"Cookie: {cookie}; own=1", *PAGE, key=None)

        assert answer.status == 200
        ((_, headers, _),) = pod.requests
        assert [value for name, value in headers if name.lower() == "cookie"] == ["own=1"]
        assert not [name for name, _ in headers if "neuropod-" in name.lower() and "host" not in name.lower()]


async def test_what_a_carrier_brings_back_opens_nothing_elsewhere_or_later():
    async with asked_gate() as served:
        one = await served.pod(Recorder(), "one")
        two = await served.pod(Recorder(), "two")
        key = served.doorkeeper.carrier_key
        carried = key.carry(served.key(), None, one.host, now=served.clock.now())
        old = key.carry(served.key(), None, one.host, now=NOW)

        assert (await served.ask(one, "GET / HTTP/1.1", f"X-Neuropod-Carried: {carried}", key=None)).status == 200
        assert (await served.ask(two, "GET / HTTP/1.1", f"X-Neuropod-Carried: {carried}", key=None)).status == 401
        assert (await served.ask(one, "GET / HTTP/1.1", f"X-Neuropod-Carried: {old}", key=None)).status == 401
        served.visitors.keys.clear()
        served.gateway.gate.doubt()
        assert (await served.ask(one, "GET / HTTP/1.1", f"X-Neuropod-Carried: {carried}", key=None)).status == 401


async def test_answers_of_private_ports_are_kept_by_no_shared_cache(tmp_path):
    """SECURITY 23."""

    async def careless(reader, writer):
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nCache-Control: public, max-age=9\r\nSurrogate-Control: max-age=9"
                b"\r\nCDN-Cache-Control: max-age=9\r\nAlt-Svc: h3\r\nClear-Site-Data: *\r\n\r\n"
            )

    async with asked_gate(port := free_port()) as served:
        private = await served.pod(careless, "one")
        public = await served.pod(careless, "two", access=Access.PUBLIC)
        async with through_traefik(tmp_path, served, port, private, public) as through:
            mine, all_s = await through.ask(private, key=served.key()), await through.ask(public, key=None)

        assert (mine["cache-control"], mine["cdn-cache-control"]) == ("private, no-cache", "no-store")
        assert mine["surrogate-control"] is None
        assert all_s["cache-control"] == "public, max-age=9"
        for answer in (mine, all_s):
            assert (answer["alt-svc"], answer["clear-site-data"]) == (None, None)


async def test_a_revocation_holds_for_the_next_request(tmp_path):
    async with asked_gate(port := free_port()) as served:
        pod = Recorder()
        route = await served.pod(pod)
        key = served.key()
        async with through_traefik(tmp_path, served, port, route) as through:
            assert (await through.ask(route, key=key)).status == 200
            served.visitors.keys.clear()
            served.gateway.gate.doubt()  # as the route feed does when a right may have changed
            assert (await through.ask(route, key=key)).status == 401

        assert len(pod.requests) == 1


# ---- who may ask (SECURITY 21)


async def _question(served, path, *headers, host="127.0.0.1:1"):
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
    return parse(await served.raw("\r\n".join(lines).encode("latin-1")))


def _told(route, method="GET", uri="/", host=None):
    return (
        f"X-Forwarded-Method: {method}",
        f"X-Forwarded-Uri: {uri}",
        f"X-Forwarded-Host: {route.host if host is None else host}",
        "X-Forwarded-Proto: https",
    )


async def test_the_gate_answers_carriers_at_their_own_address_alone():
    async with asked_gate() as served:
        one = await served.pod(Recorder(), "one")
        two = await served.pod(Recorder(), "two")
        key = f"X-Neuropod-Key: {served.key()}"
        carrier_key = served.doorkeeper.carrier_key
        path = question_path(carrier_key, "ingress", one.host)

        assert (await _question(served, path, *_told(one), key)).status == 200
        assert (await _question(served, path, *_told(two), key)).status == 400
        assert (await _question(served, path.replace(one.host, two.host), *_told(two), key)).status == 404
        assert (await _question(served, path[:-1], *_told(one), key)).status == 404
        assert (await _question(served, path, *_told(one, uri="/.neuropod/enter"), key)).status == 404
        # On the console's host it is the console's, on a pod host it is the pod's gate's.
        assert (await _question(served, path, *_told(one), key, host="app.neuropod.localhost")).content.endswith(
            b"console"
        )
        assert (await _question(served, path, *_told(one), key, host=two.host)).status == 404


async def test_a_gateway_without_such_carriers_answers_none():
    async with serving() as served:
        route = await served.pod(Recorder())
        path = question_path(served.doorkeeper.carrier_key, "ingress", route.host)

        assert (await _question(served, path, *_told(route))).content.endswith(b"console")


async def test_a_server_finds_out_whose_gateway_it_is():
    async with asked_gate() as served:
        path = check_path(served.doorkeeper.carrier_key)

        assert (await _question(served, path)).content == b'{"installation": "npd_test"}'
        assert (await _question(served, path[:-1] + "x")).status == 404


async def test_questions_share_a_connection():
    async with asked_gate() as served:
        route = await served.pod(Recorder())
        path = question_path(served.doorkeeper.carrier_key, "ingress", route.host)
        head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *_told(route), "Cookie: a=1", "", ""])
        served.serve(route, access=Access.PUBLIC)

        raw = await served.raw(head.encode() * 2 + head.replace("a=1", "a=1\r\nConnection: close").encode())

        assert raw.count(b"HTTP/1.1 200") == 3
        await until(lambda: len(served.gateway.streams) == 0, "the questions to end")


# ---- the nginx class


@pytest.mark.parametrize("style", ["nginx", "traefik"])
async def test_controllers_of_the_nginx_class_are_told_in_their_words(style):
    async with asked_gate() as served:
        route = await served.pod(Recorder())
        path = question_path(served.doorkeeper.carrier_key, "nginx", route.host)
        key, cookie = f"X-Neuropod-Key: {served.key()}", served.signed_in(route)

        async def ask(*headers, method="GET", uri="/lab"):
            told = (
                (f"X-Original-URL: http://{route.host}{uri}", f"X-Original-Method: {method}")
                if style == "nginx"
                else _told(route, method, uri)
            )
            return await _question(served, path, *told, *headers)

        let_in = await ask(key, f"Cookie: own=1; {cookie}")
        assert (let_in.status, let_in["cookie"], let_in["x-neuropod-key"]) == (200, "own=1", None)
        assert (await ask(*PAGE)).status == 401  # the carrier sends them to sign in
        assert (await ask()).status == 403  # a program is not sent anywhere
        assert (await ask("X-Neuropod-Key: wrong", *PAGE)).status == 403
        assert (await ask(f"Cookie: {cookie}", "Origin: http://evil", method="POST")).status == 403
        assert (await ask(key, uri="/.neuropod/../x")).status == 403
        assert (await ask(f"Cookie: {cookie}", "Sec-Fetch-Site: none")).status == 200


@pytest.mark.parametrize(
    ("rd", "target"),
    [
        ("http%3A%2F%2F{host}%2Flab%3Fx%3D1%26y%3D2", "/lab?x=1&y=2"),
        ("http://{host}/lab", "/lab"),
        ("", "/"),
        ("http%3A%2F%2Fevil%2Fx", "/x"),
        ("%2F%2Fevil%2Fx", "/x"),
        ("http%3A%2F%2F{host}%2Fa%0d%0aSet-Cookie%3Ab", "/aSet-Cookie:b"),
        ("http%3A%2F%2F{host}%2F.neuropod%2Fenter", "/"),
        ("%5C%5Cevil", "/"),
    ],
)
async def test_who_was_sent_to_sign_in_comes_back_to_their_path_on_that_host(database, rd, target):
    async with asked_gate(None, database.write) as served:
        actor = await console_session(database)
        route = await served.pod(Recorder(), owner_id=actor.user_id)
        served.visitors.sessions[actor.session_id] = Visitor(actor.user_id, actor.role, session_id=actor.session_id)
        browser = Browser(served, route)

        sent = await browser.get(f"/.neuropod/sign-in?rd={rd.format(host=route.host)}")
        assert sent.status == 303
        ticket = await ticket_for(served, database, actor, reference_of(sent))
        entered = await browser.post_ticket(ticket)

        assert entered["location"] == f"{served.origin(route)}{target}"


async def test_a_program_that_is_sent_to_sign_in_gets_a_401():
    async with asked_gate() as served:
        route = await served.pod(Recorder())

        assert (await served.ask(route, "GET /.neuropod/sign-in?rd=/x HTTP/1.1", key=None)).status == 401
