"""Passwords: argon2id (RFC 9106), and never more than two hashes at once.

One hash takes 64 MiB for a while, so a flood of sign-ins would take all memory (SECURITY 31): two threads hash, a short
queue waits, and who comes after that is told to try again. An unknown address costs the same time as a known one, by a
dummy hash. Made once, by `Accounts`; called by the API with no session open, since hashing is slow.
"""

import asyncio
import base64
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from neuropod.kit.errors import FieldError, ThrottledError

ResultT = TypeVar("ResultT")

AT_ONCE = 2
QUEUE = 20
_MOST_CHARACTERS = 500  # argon2 takes any length; nobody types more


class Passwords:
    """Hashes and verifies in threads of its own."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=3, memory_cost=65536, parallelism=1)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")
        self._inside = 0
        self._dummy = _dummy_hash(self._hasher)

    async def hash(self, password: str) -> str:
        """Return the encoded hash, parameters and salt in it."""
        return await self._run(self._hasher.hash, password)

    async def verify(self, encoded: str | None, password: str) -> bool:
        """Tell whether it is the password; `encoded` None (nobody, or no password set) takes as long and is False."""
        matches = await self._run(self._matches, encoded or self._dummy, password)
        return matches and encoded is not None

    def needs_rehash(self, encoded: str) -> bool:
        """Tell whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(encoded)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, encoded: str, password: str) -> bool:
        if len(password) > _MOST_CHARACTERS:
            return False
        try:
            return self._hasher.verify(encoded, password)
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False

    async def _run(self, function: Callable[..., ResultT], *arguments: str) -> ResultT:
        if self._inside >= AT_ONCE + QUEUE:
            raise ThrottledError("too many people sign in at this moment; try again", retry_after_seconds=2)
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        finally:
            self._inside -= 1


def _dummy_hash(hasher: PasswordHasher) -> str:
    """Return an encoded hash that costs the same as a real one and that no password matches."""

    def text(size: int) -> str:
        return base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=")

    cost = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v=19${cost}${text(hasher.salt_len)}${text(hasher.hash_len)}"


def password_errors(password: str, *, email: str, least: int, field: str = "new_password") -> list[FieldError]:
    """Return what is wrong with a new password (NIST SP 800-63B: length counts, composition does not)."""
    if len(password) < least:
        return [FieldError(field, "too_short", f"a password has at least {least} characters")]
    if len(password) > _MOST_CHARACTERS:
        return [FieldError(field, "too_long", f"a password has at most {_MOST_CHARACTERS} characters")]
    if password.strip().lower() in {email, email.partition("@")[0]} or len(set(password)) < 4:
        return [FieldError(field, "guessable", "this password is the first that somebody would try")]
    return []
