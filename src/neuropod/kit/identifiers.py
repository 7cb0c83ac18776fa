"""How identifiers and names are made: sortable row ids, a user's hash, random tokens, and the rule for a pod's name."""

import base64
import hashlib
import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: no i, l, o, u
POD_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
POD_NAME_RULE = "a letter, then up to 39 of a-z, 0-9 and -, not ending in -"


def new_id(prefix: str) -> str:
    """Return `<prefix>_` and 26 characters of base32: 48 bits of milliseconds, 80 random bits (the ULID layout).

    Rows made later sort later, which keeps indexes dense and cursors simple. Not a secret.
    """
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
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
