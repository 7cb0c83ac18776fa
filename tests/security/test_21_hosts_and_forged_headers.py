"""SECURITY 21: rebinding, host confusion, forged forwarding headers, absolute-form requests, two Host headers."""

import pytest

from neuropod.words import Access
from support.gateway import Recorder, parse, serving

CONSOLE = "app.neuropod.localhost"


async def _status(served, raw: bytes) -> int:
    return parse(await served.raw(raw)).status


@pytest.mark.parametrize("public", [False, True])
async def test_requests_in_doubt_reach_neither_pod_nor_console(public):
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod, access=Access.PUBLIC)
        good = (route.host if public else CONSOLE).encode()
        refused = {
            b"two hosts": b"GET / HTTP/1.1\r\nHost: %b\r\nHost: %b\r\n\r\n" % (good, good),
            b"two different hosts": b"GET / HTTP/1.1\r\nHost: %b\r\nHost: evil.example\r\n\r\n" % good,
            b"a second host by another case": b"GET / HTTP/1.1\r\nHost: %b\r\nhOsT: evil.example\r\n\r\n" % good,
            b"no host": b"GET / HTTP/1.1\r\n\r\n",
            b"an empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
            b"absolute form": b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (good, good),
            b"absolute form elsewhere": b"GET http://%b/ HTTP/1.1\r\nHost: evil.example\r\n\r\n" % good,
            b"absolute form from elsewhere": b"GET http://evil.example/ HTTP/1.1\r\nHost: %b\r\n\r\n" % good,
            b"authority form": b"CONNECT %b:80 HTTP/1.1\r\nHost: %b\r\n\r\n" % (good, good),
            b"a list of hosts": b"GET / HTTP/1.1\r\nHost: %b, evil.example\r\n\r\n" % good,
            b"userinfo": b"GET / HTTP/1.1\r\nHost: evil@%b\r\n\r\n" % good,
            b"userinfo after": b"GET / HTTP/1.1\r\nHost: %b@evil.example\r\n\r\n" % good,
            b"a path in the host": b"GET / HTTP/1.1\r\nHost: %b/x\r\n\r\n" % good,
            b"a scheme in the host": b"GET / HTTP/1.1\r\nHost: http://%b\r\n\r\n" % good,
            b"a space in the host": b"GET / HTTP/1.1\r\nHost: %b evil.example\r\n\r\n" % good,
            b"a tab in the host": b"GET / HTTP/1.1\r\nHost: %b\tevil\r\n\r\n" % good,
            b"a port that is none": b"GET / HTTP/1.1\r\nHost: %b:http\r\n\r\n" % good,
            b"a port out of range": b"GET / HTTP/1.1\r\nHost: %b:65536\r\n\r\n" % good,
            b"a folded host": b"GET / HTTP/1.1\r\nHost: %b\r\n .evil.example\r\n\r\n" % good,
            b"a space before the colon": b"GET / HTTP/1.1\r\nHost : %b\r\n\r\n" % good,
            b"a space before the name": b"GET / HTTP/1.1\r\n Host: %b\r\n\r\n" % good,
            b"a NUL in the host": b"GET / HTTP/1.1\r\nHost: %b\x00\r\n\r\n" % good,
            b"bytes beyond ASCII": b"GET / HTTP/1.1\r\nHost: %b\xff\r\n\r\n" % good,
            b"no path": b"GET ?x HTTP/1.1\r\nHost: %b\r\n\r\n" % good,
            b"an asterisk": b"GET * HTTP/1.1\r\nHost: %b\r\n\r\n" % good,
        }

        answers = {what: await served.raw(raw) for what, raw in refused.items()}

        assert {what: answer for what, answer in answers.items() if not answer.startswith(b"HTTP/1.1 400 ")} == {}
        assert pod.requests == []
        assert served.asgi_requests == []


@pytest.mark.parametrize(
    "host",
    [
        "evil.neuropod-pods.localhost", "neuropod-pods.localhost.", "lab-aaaaaaaa-1.neuropod-pods.localhost",
        "{pod}.", "x.{pod}", "{pod}.evil.example", "x{pod}",
    ],
)  # fmt: skip
async def test_a_host_that_only_resembles_a_pods_reaches_no_pod(host):
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod, access=Access.PUBLIC)
        name = host.format(pod=route.host)

        await served.raw(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())

        assert pod.requests == []


async def test_a_rebound_name_reaches_no_pod_and_is_the_other_apps_to_refuse():
    async with serving() as served:
        pod = Recorder()
        await served.pod(pod, access=Access.PUBLIC)

        await served.raw(b"GET / HTTP/1.1\r\nHost: rebound.evil.example\r\nConnection: close\r\n\r\n")

        assert pod.requests == []


async def test_a_hosts_case_and_port_change_nothing_and_are_passed_as_they_are():
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod, access=Access.PUBLIC)
        host = f"{route.host.upper()}:8080"

        assert await _status(served, f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()) == 200

        assert pod.sent("host") == [host]


FORGED = (
    "X-Forwarded-For: 203.0.113.9", "X_Forwarded_For: 203.0.113.9", "X-Forwarded-Host: evil.example",
    "X-Forwarded-Proto: https", "X-Forwarded-Port: 1", "Forwarded: for=203.0.113.9;host=evil.example", "X-Real-IP: 203.0.113.9",
    "X-Original-URL: /evil", "X-Original-Method: DELETE", "X-Rewrite-URL: /evil",
)  # fmt: skip


async def test_forged_forwarding_headers_are_replaced_by_ours():
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod, access=Access.PUBLIC)

        await served.ask(route, "GET / HTTP/1.1", *FORGED)

        sent = "\n".join(f"{name}: {value}" for name, value in pod.requests[-1][1])
        assert "203.0.113.9" not in sent
        assert "evil" not in sent
        assert pod.sent("x-forwarded-for") == ["127.0.0.1"]
        assert pod.sent("x-forwarded-proto") == ["http"]
        assert pod.sent("x-forwarded-host") == [f"{route.host}:{served.port}"]


async def test_only_a_proxy_that_the_settings_name_is_believed_and_only_about_the_client():
    async with serving(trusted_proxies=("127.0.0.0/8",)) as served:
        pod = Recorder()
        route = await served.pod(pod, access=Access.PUBLIC)

        await served.ask(route, "GET / HTTP/1.1", *FORGED)

        assert pod.sent("x-forwarded-for") == ["203.0.113.9, 127.0.0.1"]
        assert pod.sent("x-forwarded-host") == [f"{route.host}:{served.port}"]
        assert pod.sent("x-forwarded-proto") == ["http"]


async def test_identity_headers_and_their_aliases_never_reach_a_pod():
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod, access=Access.PUBLIC)
        names = ("X-Neuropod-User", "X_Neuropod_User", "x-neuropod_Key", "X.Neuropod.Key", "X-NEUROPOD-ANYTHING")

        await served.ask(route, "GET / HTTP/1.1", *(f"{name}: forged" for name in names))

        assert not any("neuropod" in name.lower() for name, _ in pod.requests[-1][1])


async def test_origins_are_compared_with_the_settings_and_not_with_the_request():
    async with serving() as served:
        pod = Recorder()
        route = await served.pod(pod)
        cookie = served.signed_in(route)
        host = f"{route.host}:1234"
        raw = (
            f"POST / HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        )

        assert await _status(served, raw.encode()) == 403
        assert pod.requests == []
