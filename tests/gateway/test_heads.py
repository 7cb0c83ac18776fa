"""Heads of requests and answers: what is refused, what a pod gets, what a client gets."""

import pytest

from neuropod.gateway.heads import (
    BadHeadError,
    Framing,
    answered_head,
    forwarded_head,
    keep_cookies,
    private_cache_control,
    read_framing,
    read_head,
)

HOST = (b"Host", b"lab-abcdefgh-8888.pods.example")


def _forwarded(*headers, method=b"GET", **values):
    head = read_head(method, b"/a?b=c", "1.1", [HOST, *headers])
    given = {"peer": "192.0.2.7", "trusted_peer": False, "scheme": "https"} | values
    return forwarded_head(head, **given).decode().removesuffix("\r\n\r\n").split("\r\n")


def test_host_and_target_are_passed_unchanged():
    lines = _forwarded((b"X-Own", b"1"), (b"accept-ENCODING", b"gzip"))

    assert lines[0] == "GET /a?b=c HTTP/1.1"
    assert "Host: lab-abcdefgh-8888.pods.example" in lines
    assert "X-Own: 1" in lines
    assert "accept-ENCODING: gzip" in lines


@pytest.mark.parametrize(
    "name",
    [
        b"X-Neuropod-Key", b"x-neuropod-user", b"X_Neuropod_Key", b"x-neuropod_user", b"X.Neuropod.Key",
        b"X-Forwarded-For", b"X_Forwarded_For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Forwarded-Port",
        b"Forwarded", b"X-Real-IP", b"X-Original-URL", b"X-Rewrite-Url", b"Expect", b"TE", b"Trailer", b"Keep-Alive",
        b"Proxy-Authorization", b"Proxy-Connection", b"Content_Length", b"Transfer_Encoding",
    ],
)  # fmt: skip
def test_identity_framing_and_hop_by_hop_headers_never_reach_a_pod_as_they_came(name):
    lines = _forwarded((name, b"100-continue" if name == b"Expect" else b"forged"))

    assert not any("forged" in line or "100-continue" in line for line in lines)


def test_what_connection_names_is_dropped_but_neither_host_nor_what_we_set():
    lines = _forwarded(
        (b"Connection", b"close, X-Secret , host,x-forwarded-for"), (b"x-secret", b"1"), (b"Other", b"2")
    )

    assert [line.partition(":")[0] for line in lines[1:]] == [
        "Host", "Other", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host",
    ]  # fmt: skip


def test_forwarded_headers_are_ours():
    lines = _forwarded((b"X-Forwarded-For", b"203.0.113.1"))

    assert "X-Forwarded-For: 192.0.2.7" in lines
    assert "X-Forwarded-Proto: https" in lines
    assert f"X-Forwarded-Host: {HOST[1].decode()}" in lines


def test_a_trusted_proxys_word_on_the_client_is_added_to():
    lines = _forwarded((b"X-Forwarded-For", b"203.0.113.1"), trusted_peer=True)

    assert "X-Forwarded-For: 203.0.113.1, 192.0.2.7" in lines


def test_our_cookies_are_taken_out_and_the_others_stay_as_they_are():
    cookie = b'a=1; __Host-neuropod-pass=x; b="2; 3";__host-NEUROPOD-hop-1=y; neuropod-gate-pass=z; c'

    assert keep_cookies(cookie) == b'a=1; b="2; 3"; c'
    assert not any(line.lower().startswith("cookie") for line in _forwarded((b"Cookie", b"__Host-neuropod-pass=x")))
    assert "Cookie: a=1" in _forwarded((b"Cookie", b"a=1"))


def test_a_server_of_ours_gets_the_credentials_too():
    lines = _forwarded((b"Cookie", b"__Host-neuropod-session=x"), (b"X-Neuropod-Key", b"k"), to_pod=False)

    assert "Cookie: __Host-neuropod-session=x" in lines
    assert "X-Neuropod-Key: k" in lines


def test_framing_is_made_anew():
    assert "Content-Length: 7" in _forwarded((b"content-length", b"0007"), method=b"POST")
    assert "Transfer-Encoding: chunked" in _forwarded((b"transfer-encoding", b" Chunked"), method=b"POST")


@pytest.mark.parametrize(
    ("status", "method", "target", "version", "headers"),
    [
        (400, b"GET", b"http://lab/", "1.1", [HOST]),
        (400, b"CONNECT", b"lab:443", "1.1", [HOST]),
        (400, b"GET", b"*", "1.1", [HOST]),
        (400, b"GET", b"/#a", "1.1", [HOST]),
        (400, b"GET", b"/", "1.1", []),
        (400, b"GET", b"/", "1.1", [HOST, HOST]),
        (400, b"GET", b"/", "1.1", [HOST, (b"hOST", b"other")]),
        (400, b"GET", b"/", "1.1", [(b"Host", b"")]),
        (400, b"GET", b"/", "1.1", [(b"Host", b"a b")]),
        (400, b"GET", b"/", "1.1", [(b"Host", b"user@lab")]),
        (400, b"GET", b"/", "1.1", [(b"Host", b"lab/path")]),
        (400, b"GET", b"/", "1.1", [(b"Host", b"lab,other")]),
        (400, b"GET", b"/", "1.1", [(b"Host", b"lab:99999")]),
        (400, b"GET", b"/", "1.1", [(b"Host", b"lab:")]),
        (400, b"POST", b"/", "1.1", [HOST, (b"Transfer-Encoding", b"gzip, chunked")]),
        (400, b"POST", b"/", "1.0", [HOST, (b"Transfer-Encoding", b"chunked")]),
        (400, b"GET", b"/", "1.1", [HOST, (b"Origin", b"a"), (b"Origin", b"b")]),
        (417, b"GET", b"/", "1.1", [HOST, (b"Expect", b"more")]),
        (505, b"GET", b"/", "0.9", [HOST]),
    ],
)
def test_heads_in_doubt_are_refused(status, method, target, version, headers):
    with pytest.raises(BadHeadError) as refused:
        read_head(method, target, version, headers)

    assert refused.value.status == status


@pytest.mark.parametrize("host", [b"LAB.Example", b"lab.example:8080", b"127.0.0.1:1", b"[::1]:8080"])
def test_hosts_are_read_without_port_and_case(host):
    head = read_head(b"GET", b"/", "1.1", [(b"Host", host)])

    assert head.host == host.decode().rsplit(":", 1)[0 if b":" in host else -1].lower()


def _answered(*headers, private=True, **values):
    head = answered_head(200, b"OK", headers, [b"Content-Length: 1"], private=private, **values)
    return head.decode().removesuffix("\r\n\r\n").split("\r\n")


def test_an_answer_keeps_its_own_headers_and_gets_our_framing():
    lines = _answered(
        (b"Content-Type", b"text/plain"), (b"Connection", b"x-hop"), (b"X-Hop", b"1"), (b"Keep-Alive", b"timeout=1"),
        (b"Content-Length", b"99"), private=False,
    )  # fmt: skip

    assert lines == ["HTTP/1.1 200 OK", "Content-Type: text/plain", "Content-Length: 1"]


def test_a_pod_sets_none_of_our_cookies_and_touches_no_other_host():
    lines = _answered(
        (b"Set-Cookie", b"__Host-neuropod-pass=forged; Path=/"), (b"Set-Cookie", b"own=1"), (b"Clear-Site-Data", b'"*"'),
        (b"Alt-Svc", b'h2=":1"'), private=False,
    )  # fmt: skip

    assert lines == ["HTTP/1.1 200 OK", "Set-Cookie: own=1", "Content-Length: 1"]


def test_a_private_answer_is_kept_out_of_shared_caches_whatever_the_pod_says():
    lines = _answered(
        (b"Cache-Control", b"public, max-age=60, s-maxage=600"), (b"CDN-Cache-Control", b"max-age=1"),
        (b"Cloudflare-CDN-Cache-Control", b"max-age=1"), (b"Surrogate-Control", b"max-age=1"),
    )  # fmt: skip

    assert lines == [
        "HTTP/1.1 200 OK", "Cache-Control: private, max-age=60", "CDN-Cache-Control: no-store", "Content-Length: 1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"", b"private"), (b"no-store", b"private, no-store"), (b"PUBLIC,immutable", b"private, immutable")],
)
def test_cache_directives_become_private(value, expected):
    assert private_cache_control(value) == expected


def test_a_coding_that_we_do_not_understand_is_not_passed_on():
    assert read_framing([(b"transfer-encoding", b"Chunked")]) == Framing(None, chunked=True)
    with pytest.raises(BadHeadError):
        read_framing([(b"Transfer-Encoding", b"gzip")])
