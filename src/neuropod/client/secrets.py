"""Secrets, by name."""

from collections.abc import Iterator
from urllib.parse import quote

from neuropod.client.connection import Connection
from neuropod.wire.secrets import SecretPage, SecretSet, UserSecret


class UserSecrets:
    """`/api/v1/secrets`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_secrets(self) -> Iterator[UserSecret]:
        """Yield one's secrets by name; nobody is told their values."""
        return self._connection.pages(SecretPage, "/secrets")

    def set_secret(self, name: str, asked: SecretSet) -> UserSecret:
        """Keep a value by a name."""
        return self._connection.ask(UserSecret, "PUT", _path(name), body=asked)

    def delete_secret(self, name: str, *, force: bool = False) -> None:
        """Delete a secret; `force`: also while pods use it."""
        self._connection.send("DELETE", _path(name), params={"force": "true"} if force else None)


def _path(name: str) -> str:
    return f"/secrets/{quote(name, safe='')}"
