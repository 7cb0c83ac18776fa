"""Secrets: values that do not print themselves, hashes of tokens, and encryption bound to the row it stands in."""

import hashlib
import hmac
import os
import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class Secret:
    """A text that shows itself only when asked: logs, errors and `repr` get stars."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value: Final = value

    def reveal(self) -> str:
        """Return the value; call this at the last moment."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)


def token_hash(token: str) -> str:
    """Return the hex SHA-256 under which a random token is stored.

    Enough for tokens of 32 random bytes; a password needs `accounts.passwords` (argon2id).
    """
    return hashlib.sha256(token.encode()).hexdigest()


class WrongKeyError(Exception):
    """The ciphertext was made with another key, or for another row."""


class SecretBox:
    """AES-256-GCM (NIST SP 800-38D) with the installation's key; every ciphertext is bound to a `place`.

    `place` names the row and column (`pods/pod_…/jupyter_token`), so that a ciphertext copied to another row does not
    open there. A box is made once by server and passed down.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aead = AESGCM(key)
        self.fingerprint = hashlib.sha256(b"neuropod key fingerprint" + key).hexdigest()[:16]

    @staticmethod
    def new_key() -> bytes:
        """Return a new key of 32 random bytes."""
        return secrets.token_bytes(32)

    def derived(self, purpose: str) -> bytes:
        """Return 32 bytes that follow from the key for a purpose, and from which it cannot be found (RFC 5869)."""
        return HKDF(SHA256(), 32, salt=None, info=f"neuropod {purpose}".encode()).derive(self._key)

    def seal(self, value: Secret, *, place: str) -> bytes:
        """Return nonce and ciphertext."""
        nonce = os.urandom(12)
        return nonce + self._aead.encrypt(nonce, value.reveal().encode(), place.encode())

    def open(self, sealed: bytes, *, place: str) -> Secret:
        """Return the secret, or raise WrongKeyError."""
        try:
            return Secret(self._aead.decrypt(sealed[:12], sealed[12:], place.encode()).decode())
        except InvalidTag:
            raise WrongKeyError(f"the secret at {place} was not written there with this key") from None
