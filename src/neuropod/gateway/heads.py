"""Reading and re-making the heads of requests and answers: bytes in, bytes out. Pure.

The parser (llhttp, strict) refuses what it can see: Content-Length with Transfer-Encoding or twice, folded lines, bare
CR or LF, wrong chunks. Here stand the rest of the rules on heads (SECURITY 12, 18, 21, 22, 23): one well-formed Host,
a target that is a path, no codings but chunked, identity headers dropped with their aliases, hop-by-hop headers dropped
with what Connection names, and framing always made anew, never copied.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuropod.gateway.passes import is_our_cookie
from neuropod.gateway.rules import Circumstances

Headers = Sequence[tuple[bytes, bytes]]

_HOST = re.compile(rb"([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?", re.IGNORECASE)
_CAPITALS = bytes(range(ord("A"), ord("Z") + 1))
# Servers that hand headers on as variables (CGI, WSGI) make one name of `X-Key`, `X_Key` and `X.Key`.
_ALIASES = bytes.maketrans(_CAPITALS + b"!#$%&'*+.^_`|~", _CAPITALS.lower() + b"-" * 14)
_HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"http2-settings",
})  # fmt: skip
_OURS_TO_SET = frozenset({
    b"host", b"content-length", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host",
    b"x-forwarded-port", b"x-forwarded-server", b"x-forwarded-prefix", b"x-forwarded-scheme", b"x-forwarded-ssl",
    b"x-real-ip", b"x-client-ip", b"x-original-url", b"x-original-uri", b"x-original-host", b"x-original-method",
    b"x-rewrite-url", b"x-http-host-override",
})  # fmt: skip
_NOT_FORWARDED = _HOP_BY_HOP | _OURS_TO_SET
_IDENTITY = b"x-neuropod-"
_ONCE = frozenset({
    b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest", b"sec-fetch-user", b"x-neuropod-key",
    b"x-neuropod-carried", b"upgrade", b"expect", b"transfer-encoding", b"content-length",
})  # fmt: skip
_LISTS = frozenset({
    b"connection", b"cookie", b"accept", b"referer", b"x-forwarded-for", b"access-control-request-method",
    b"content-type",
})  # fmt: skip
_READ = _ONCE | _LISTS
# What only tells a cache in front of us to keep what we say is private, or a browser to touch more than this host.
_ANSWER_DROPPED = frozenset({b"alt-svc", b"clear-site-data"})
_CACHE_HINTS = frozenset({b"cache-control", b"surrogate-control", b"edge-control", b"x-accel-expires"})


class BadHeadError(Exception):
    """The request is not answered as asked: a status and a sentence for whoever sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class RequestHead:
    """A request's head, checked. `read` holds the headers that we look at, by lower-case name."""

    method: bytes
    target: bytes
    version: str
    host: str  # lower case, without port; empty when an HTTP/1.0 client named none
    headers: Headers
    read: dict[bytes, bytes]
    listed: frozenset[bytes]  # what Connection names

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]

    @property
    def chunked(self) -> bool:
        """The body comes in chunks."""
        return b"transfer-encoding" in self.read

    @property
    def length(self) -> int:
        """The body's length where it is not chunked."""
        return int(self.read.get(b"content-length", b"0"))

    @property
    def has_body(self) -> bool:
        """A body follows, or may follow."""
        return self.chunked or self.length > 0

    @property
    def asks_upgrade(self) -> bool:
        """Asks for a WebSocket; any other upgrade is ignored, as HTTP allows."""
        return b"upgrade" in self.listed and self.read.get(b"upgrade", b"").lower() == b"websocket"

    @property
    def circumstances(self) -> Circumstances:
        """What the browser tells about where the request comes from."""
        read = self.read.get
        return Circumstances(
            method=self.method,
            origin=read(b"origin"),
            fetch_site=read(b"sec-fetch-site"),
            fetch_mode=read(b"sec-fetch-mode"),
            fetch_dest=read(b"sec-fetch-dest"),
            referer=read(b"referer"),
            upgrade=self.asks_upgrade,
            body=self.has_body,
        )

    @property
    def preflight(self) -> bool:
        """A browser asks whether another site's page may send something."""
        return self.method == b"OPTIONS" and b"access-control-request-method" in self.read


def read_head(method: bytes, target: bytes, version: str, headers: Headers) -> RequestHead:
    """Check a parsed head. Raises BadHeadError with what the client is told."""
    if version not in {"1.1", "1.0"}:
        raise BadHeadError(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise BadHeadError(400, "the request's target must be a path")
    if b"#" in target:
        raise BadHeadError(400, "the request's target must not hold a fragment")
    read: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _READ:
            if lower not in read:
                read[lower] = value
            elif lower in _ONCE:
                raise BadHeadError(400, f"the header {lower.decode()} must not come twice")
            else:
                read[lower] += (b"; " if lower == b"cookie" else b", ") + value
    _check_coding(version, read)
    connection = read.get(b"connection")
    listed = frozenset(token.strip().lower() for token in connection.split(b",")) if connection else frozenset()
    return RequestHead(method, target, version, _read_host(version, read.get(b"host")), headers, read, listed)


def _check_coding(version: str, read: dict[bytes, bytes]) -> None:
    coding = read.get(b"transfer-encoding")
    if coding is not None and (version != "1.1" or coding.strip().lower() != b"chunked"):
        raise BadHeadError(400, "the only transfer coding understood is chunked, in HTTP/1.1")
    if read.get(b"expect", b"100-continue").lower() != b"100-continue":
        raise BadHeadError(417, "the only expectation understood is 100-continue")


def _read_host(version: str, value: bytes | None) -> str:
    if value is None:
        if version == "1.0":
            return ""
        raise BadHeadError(400, "the header host is missing")
    match = _HOST.fullmatch(value)
    if match is None or int(match[2] or b"0") > 65535:
        raise BadHeadError(400, "the header host is not a host name with an optional port")
    return match[1].decode().lower()


def keep_cookies(cookie: bytes) -> bytes:
    """Return a Cookie header without our own cookies."""
    if b"neuropod" not in cookie.lower():
        return cookie
    return b"; ".join(part.strip() for part in cookie.split(b";") if not is_our_cookie(part.partition(b"=")[0].strip()))


def forwarded_head(head: RequestHead, *, peer: str, trusted_peer: bool, scheme: str, to_pod: bool = True) -> bytes:
    """Return the head that the pod gets: Host and all else that is its own unchanged, framing and identity ours.

    With `to_pod` false it goes to a server of Neuropod itself, which gets the credentials too.
    """
    lines = [head.method + b" " + head.target + b" HTTP/1.1", b"Host: " + head.read.get(b"host", b"")]
    listed = head.listed
    for name, value in head.headers:
        plain = name.translate(_ALIASES)
        if plain in _NOT_FORWARDED or (listed and name.lower() in listed):
            continue
        if to_pod and (plain.startswith(_IDENTITY) or (plain == b"cookie" and not (value := keep_cookies(value)))):
            continue
        lines.append(name + b": " + value)
    if head.asks_upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket")
    elif head.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    elif b"content-length" in head.read:
        lines.append(b"Content-Length: %d" % head.length)
    told = head.read.get(b"x-forwarded-for") if trusted_peer else None
    client = peer.encode() if told is None else told + b", " + peer.encode()
    lines.append(
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n\r\n"
        % (client, scheme.encode(), head.read.get(b"host", b""))
    )
    return b"\r\n".join(lines)


@dataclass(frozen=True, slots=True)
class Framing:
    """How an answer's body is told apart from what follows: a length, chunks, or the connection's end."""

    length: int | None
    chunked: bool


def read_framing(headers: Headers) -> Framing:
    """Return the framing of a parsed answer. Raises BadHeadError for a coding that we do not understand."""
    length: int | None = None
    chunked = False
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length":
            length = int(value)
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise BadHeadError(502, "the pod's answer has a transfer coding other than chunked")
            chunked = True
    return Framing(length, chunked)


def answered_head(
    status: int,
    phrase: bytes,
    headers: Headers,
    framing_lines: Iterable[bytes],
    *,
    private: bool,
    from_pod: bool = True,
) -> bytes:
    """Return the head that the client gets. `private`: no shared cache may keep the answer.

    A pod's answer sets none of our cookies and touches nothing beyond its host.
    """
    lines = [b"HTTP/1.1 %d %b" % (status, phrase)]
    listed = {
        token.strip().lower()
        for name, value in headers
        if len(name) == 10 and name.lower() == b"connection"
        for token in value.split(b",")
    }
    cache_control = b""
    for name, value in headers:
        lower = name.lower()
        if lower in _HOP_BY_HOP or lower == b"content-length" or lower in listed:
            continue
        if private and (lower in _CACHE_HINTS or lower.endswith(b"cdn-cache-control")):
            if lower == b"cache-control":
                cache_control += b"," + value
            continue
        if from_pod and (
            lower in _ANSWER_DROPPED or (lower == b"set-cookie" and is_our_cookie(value.partition(b"=")[0].strip()))
        ):
            continue
        lines.append(name + b": " + value)
    if private:
        lines.append(b"Cache-Control: " + private_cache_control(cache_control))
        lines.append(b"CDN-Cache-Control: no-store")
    lines.extend(framing_lines)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def private_cache_control(value: bytes) -> bytes:
    """Return the directives with `private`, and without what would let a shared cache keep the answer."""
    kept = [b"private"]
    for directive in value.split(b","):
        name = directive.partition(b"=")[0].strip().lower()
        if name not in {b"", b"public", b"private", b"s-maxage", b"proxy-revalidate"}:
            kept.append(directive.strip())
    return b", ".join(kept)
