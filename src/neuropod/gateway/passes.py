"""Passes: what a browser holds to pass the gate of one pod host, and the names of the gate's own cookies.

A pass is sealed with the installation's key and bound to its host, so it is no row, survives restarts, holds on every
server, and opens nothing on any other host. It names the console session that it came from and ends with it. It carries
no rights in the API (SECURITY 20).

Cookie names have the prefix `__Host-`, with which a browser takes a cookie only over a trustworthy connection, for that
very host and from that host (SECURITY 18). Chromium and Firefox count http to *.localhost as trustworthy. Where the
settings accept plain http beyond localhost no browser would take such a cookie, and the names are without it.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from neuropod.ids import SessionId
from neuropod.kit.secrets import Secret, SecretBox, WrongKeyError

_OURS = (b"__host-neuropod", b"__secure-neuropod", b"neuropod-")


def is_our_cookie(name: bytes) -> bool:
    """Tell whether a cookie is ours: never shown to a pod, never taken from one."""
    return name.lower().startswith(_OURS)


@dataclass(frozen=True, slots=True)
class CookieNames:
    """The names and attributes of the gate's cookies, as the pods' addresses need them."""

    trustworthy: bool

    @property
    def gate_pass(self) -> str:
        """The name of the pass."""
        return "__Host-neuropod-pass" if self.trustworthy else "neuropod-gate-pass"

    def hop(self, hop_id: str) -> str:
        """Return the name of the cookie that waits for a visitor's return from the console's sign-in."""
        return f"__Host-neuropod-hop-{hop_id}" if self.trustworthy else f"neuropod-gate-hop-{hop_id}"

    def set_pass(self, value: str, max_age_seconds: int) -> str:
        """Return the Set-Cookie for a pass. Lax: links from elsewhere open a pod, nothing else from there does."""
        return f"{self.gate_pass}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_seconds}{self._secure}"

    def set_hop(self, hop_id: str, value: str, max_age_seconds: int) -> str:
        """Return the Set-Cookie for a hop; None lets it come along with the POST from the console, another site."""
        same_site = "; SameSite=None" if self.trustworthy else ""
        return f"{self.hop(hop_id)}={value}; Path=/; HttpOnly; Max-Age={max_age_seconds}{same_site}{self._secure}"

    @property
    def _secure(self) -> str:
        return "; Secure" if self.trustworthy else ""


def cookie_values(cookie: bytes, name: str) -> list[str]:
    """Return the values of a cookie, of which a hostile sibling may have added some."""
    wanted = name.encode()
    pairs = (part.partition(b"=") for part in cookie.split(b";"))
    return [value.strip().decode("latin-1") for found, _, value in pairs if found.strip() == wanted]


def seal_text(box: SecretBox, value: object, *, place: str) -> str:
    """Return a value sealed for a place, in characters that fit cookies and URLs."""
    sealed = box.seal(Secret(json.dumps(value, separators=(",", ":"))), place=place)
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def open_text(box: SecretBox, text: str, *, place: str) -> object | None:
    """Return the value, or None when it was not sealed for that place by this installation."""
    try:
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        value: object = json.loads(box.open(sealed, place=place).reveal())
    except (WrongKeyError, binascii.Error, ValueError):
        return None
    return value


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass says."""

    session_id: SessionId
    ends_at: datetime


def make_pass(box: SecretBox, host: str, content: Pass) -> str:
    """Return the cookie's value."""
    return seal_text(box, [content.session_id, int(content.ends_at.timestamp())], place=f"gate/pass/{host}")


def read_pass(box: SecretBox, host: str, value: str, *, now: datetime) -> Pass | None:
    """Return what a pass says; None for another host's, a forged one or one that has ended."""
    match open_text(box, value, place=f"gate/pass/{host}"):
        case [str(session_id), int(end)]:
            ends_at = datetime.fromtimestamp(end, UTC)
            return Pass(SessionId(session_id), ends_at) if ends_at > now else None
        case _:
            return None
