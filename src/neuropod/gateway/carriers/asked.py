"""What a carrier asks the gate: about which host, and what the visitor's own request was. Pure.

Called by gateway.question. The host stands in the address that is asked, with a proof that only we make (proofs.py);
what the carrier forwards must not say otherwise. Traefik tells the visitor's request in X-Forwarded-*, Ingress-NGINX
in X-Original-URL and X-Original-Method; Traefik as a controller of the nginx class again in X-Forwarded-*. Who writes
those headers into a request to such a carrier can only be a program, and lies about its own request alone.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from neuropod.gateway.carriers.proofs import CarrierKey
from neuropod.gateway.carriers.style import QUESTION_PATH, CarrierKind
from neuropod.gateway.heads import BadHeadError, Headers, RequestHead, read_head

_KINDS: dict[str, CarrierKind] = {"ingress": "ingress", "nginx": "nginx"}
_TOLD = frozenset({
    b"x-forwarded-method", b"x-forwarded-uri", b"x-forwarded-host", b"x-original-url", b"x-original-method",
})  # fmt: skip
# Of the carrier's request to us, not of the visitor's.
_CARRIERS_OWN = frozenset({
    b"host", b"connection", b"upgrade", b"content-length", b"transfer-encoding", b"expect", b"x-neuropod-carried",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A question: the carrier's kind, and the visitor's request as the gate looks at it."""

    kind: CarrierKind
    head: RequestHead


def is_question(target: bytes) -> bool:
    """Tell whether a request on a gate's own host is for the gate."""
    return target.startswith(b"/.neuropod/gate/")


def is_check(key: CarrierKey, head: RequestHead) -> bool:
    """Tell whether a server asks whose gateway this is."""
    kind, _, proof = head.path.removeprefix(QUESTION_PATH.encode() + b"/").partition(b"/")
    return kind == b"check" and key.is_proof("check", proof.decode("latin-1"))


def read_asked(key: CarrierKey, head: RequestHead) -> Asked | None:
    """Return what is asked; None when it is asked at no address of ours.

    Raises BadHeadError when what the carrier tells contradicts itself, or is no request.
    """
    parts = head.path.decode("latin-1").removeprefix(QUESTION_PATH + "/").split("/")
    if len(parts) != 3 or parts[0] not in _KINDS:
        return None
    kind, host, proof = _KINDS[parts[0]], parts[1], parts[2]
    if not key.is_proof(f"{kind} {host}", proof):
        return None
    method, target = _visitors_request(kind, host, _told(head.headers))
    headers = [(name, value) for name, value in head.headers if name.lower() not in _CARRIERS_OWN | _TOLD]
    headers.append((b"Host", host.encode()))
    if any(name.lower() == b"sec-websocket-key" for name, _ in headers):  # Upgrade itself goes to no gate
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
    return Asked(kind, read_head(method, target, "1.1", headers))


def _told(headers: Headers) -> dict[bytes, bytes]:
    told: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _TOLD:
            if lower in told:
                raise BadHeadError(400, f"the header {lower.decode()} must not come twice")
            told[lower] = value
    return told


def _visitors_request(kind: CarrierKind, host: str, told: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """Return method and target of the visitor's request."""
    requests = []
    forwarded = (told.get(b"x-forwarded-method"), told.get(b"x-forwarded-uri"))
    if forwarded[0] is not None and forwarded[1] is not None:
        requests.append((forwarded[0], forwarded[1]))
    hosts = [told[b"x-forwarded-host"]] if b"x-forwarded-host" in told else []
    if kind == "nginx" and b"x-original-url" in told:
        target, original_host = _of_url(told[b"x-original-url"])
        if b"x-original-method" not in told:
            raise BadHeadError(400, "what was asked for is in doubt")
        requests.append((told[b"x-original-method"], target))
        hosts.append(original_host)
    if not requests or any(request != requests[0] for request in requests):
        raise BadHeadError(400, "what was asked for is in doubt")
    if any(found.decode("latin-1").lower().partition(":")[0] != host for found in hosts):
        raise BadHeadError(400, "which host was asked is in doubt")
    return requests[0]


def _of_url(url: bytes) -> tuple[bytes, bytes]:
    """Return target and host of an absolute URL, the target as it came."""
    try:
        host = urlsplit(url).netloc
    except ValueError:
        raise BadHeadError(400, "the original URL is none") from None
    _, separator, rest = url.partition(b"://")
    slash = rest.find(b"/")
    if not separator or slash < 0:
        raise BadHeadError(400, "the original URL is none")
    return rest[slash:], host
