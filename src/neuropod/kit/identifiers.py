"""How identifiers and names are made: sortable row ids, a user's hash, random tokens, and the rule for a pod's name."""

import base64
import hashlib
import re
import secrets
import threading
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
POD_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
POD_NAME_RULE = "a letter, then up to 39 of a-z, 0-9 and -, not ending in -"


class _Rising:
    """The numbers of ids: never smaller than this process's last, within a millisecond or with a clock set back.

    Rows of one transaction are often made in the same millisecond, and lists (the audit log) are read by their ids.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self) -> int:
        fresh = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
        with self._lock:
            # As the ULID specification's monotonic factory does, but by a random step: ids of other processes in the
            # same millisecond stay apart.
            later = fresh >> 80 > self._last >> 80
            self._last = fresh if later else self._last + 1 + secrets.randbits(32)
            return self._last


_rising = _Rising()


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 characters of base32: 48 bits of milliseconds, 80 random bits (the ULID layout).

    Rows made later sort later: always within a process, to the millisecond between processes. That keeps indexes
    dense and cursors simple. Not a secret.
    """
    number = _rising.next()
    digits = []
    for _ in range(26):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return f"{prefix}_{''.join(reversed(digits))}"


def user_hash(user_id: str, salt: int = 0) -> str:
    """Return the 8 characters of base32 (a-z, 2-7) that stand for a user in host names and namespaces.

    Salted again by the caller on a collision; the database keeps the result unique.
    """
    digest = hashlib.sha256(f"{user_id}:{salt}".encode()).digest()
    return base64.b32encode(digest[:5]).decode().lower()


def new_token(nbytes: int = 32) -> str:
    """Return an unguessable URL-safe token of `nbytes` random bytes."""
    return secrets.token_urlsafe(nbytes)


def is_pod_name(name: str) -> bool:
    """Tell whether `name` may name a pod, so that `<pod>-<user hash>-<port>` is one DNS label (RFC 1035: 63)."""
    return POD_NAME.fullmatch(name) is not None
