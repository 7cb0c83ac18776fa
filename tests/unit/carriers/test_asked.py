"""What carriers ask, and what they cannot talk the gate into."""

import pytest

from neuropod.gateway.carriers.asked import is_check, is_question, read_asked
from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.carriers.style import check_path, question_path
from neuropod.gateway.heads import BadHeadError, read_head

KEY = CarrierKey(b"k" * 32)
HOST = "lab-abcdefgh-8888.pods.example.org"
TRAEFIK = [
    (b"X-Forwarded-Method", b"POST"),
    (b"X-Forwarded-Uri", b"/api?x=1"),
    (b"X-Forwarded-Host", HOST.encode() + b":8443"),
    (b"X-Forwarded-Proto", b"https"),
]
NGINX = [(b"X-Original-URL", f"https://{HOST}/api?x=1".encode()), (b"X-Original-Method", b"POST")]


def _asked(headers, path=None, kind="ingress", key=KEY):
    path = question_path(KEY, kind, HOST) if path is None else path
    return read_asked(key, read_head(b"GET", path.encode(), "1.1", [(b"Host", b"gate:8080"), *headers]))


@pytest.mark.parametrize(
    ("kind", "headers"),
    [("ingress", TRAEFIK), ("nginx", NGINX), ("nginx", TRAEFIK), ("nginx", TRAEFIK + NGINX)],
)
def test_the_visitors_request_is_read(kind, headers):
    asked = _asked([*headers, (b"Cookie", b"a=1"), (b"Accept", b"text/html")], kind=kind)

    assert asked.kind == kind
    assert (asked.head.method, asked.head.target, asked.head.host) == (b"POST", b"/api?x=1", HOST)
    assert asked.head.read[b"cookie"] == b"a=1"
    assert not asked.head.asks_upgrade


def test_a_websocket_is_known_by_its_key():
    assert _asked([*TRAEFIK, (b"Sec-WebSocket-Key", b"x")]).head.asks_upgrade


def test_what_only_we_write_is_not_taken_from_a_client():
    assert b"x-neuropod-carried" not in _asked([*TRAEFIK, (b"X-Neuropod-Carried", b"x")]).head.read


@pytest.mark.parametrize(
    "path",
    [
        "/.neuropod/gate/ingress",
        f"/.neuropod/gate/ingress/{HOST}",
        f"/.neuropod/gate/ingress/{HOST}/",
        f"/.neuropod/gate/ingress/{HOST}/{'a' * 32}",
        question_path(KEY, "ingress", "other.pods.example.org").replace("other.pods.example.org", HOST),
        question_path(KEY, "nginx", HOST).replace("/nginx/", "/ingress/"),
        question_path(KEY, "ingress", HOST) + "/more",
        question_path(CarrierKey(b"o" * 32), "ingress", HOST),
    ],
)
def test_an_address_that_is_not_ours_is_none(path):
    assert _asked(TRAEFIK, path) is None


@pytest.mark.parametrize(
    ("kind", "headers"),
    [
        ("ingress", []),
        ("ingress", NGINX),
        ("ingress", TRAEFIK[:1]),
        ("ingress", [*TRAEFIK[:2], (b"X-Forwarded-Host", b"other.pods.example.org")]),
        ("ingress", [*TRAEFIK, (b"X-Forwarded-Uri", b"/other")]),
        ("ingress", [(b"X-Forwarded-Method", b"GET"), (b"X-Forwarded-Uri", b"http://evil/")]),
        ("ingress", [*TRAEFIK, (b"Origin", b"https://a"), (b"Origin", b"https://b")]),
        ("nginx", NGINX[:1]),
        ("nginx", [(b"X-Original-URL", b"https://other/api?x=1"), NGINX[1]]),
        ("nginx", [(b"X-Original-URL", f"https://{HOST}".encode()), NGINX[1]]),
        ("nginx", [(b"X-Original-URL", b"/api"), NGINX[1]]),
        ("nginx", [*TRAEFIK[:1], (b"X-Forwarded-Uri", b"/else"), *NGINX]),
        ("nginx", [*TRAEFIK, NGINX[0], (b"X-Original-Method", b"GET")]),
    ],
)
def test_what_is_in_doubt_is_refused(kind, headers):
    with pytest.raises(BadHeadError):
        _asked(headers, kind=kind)


def test_nginx_headers_mean_nothing_from_traefik():
    forged = [(b"X-Original-URL", b"https://other/else"), (b"X-Original-Method", b"GET")]

    assert _asked([*TRAEFIK, *forged]).head.target == b"/api?x=1"


def test_a_check_is_known_by_its_proof():
    def head(path):
        return read_head(b"GET", path.encode(), "1.1", [(b"Host", b"gate")])

    assert is_check(KEY, head(check_path(KEY)))
    assert not is_check(CarrierKey(b"o" * 32), head(check_path(KEY)))
    assert not is_check(KEY, head("/.neuropod/gate/check/"))
    assert is_question(check_path(KEY).encode())
