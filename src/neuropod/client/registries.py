"""Registries, by host."""

from collections.abc import Iterator
from urllib.parse import quote

from neuropod.client.connection import Connection
from neuropod.wire.registries import RegistryPage, RegistrySet, UserRegistry


class UserRegistries:
    """`/api/v1/registries`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_registries(self) -> Iterator[UserRegistry]:
        """Yield one's registries by host; nobody is told their passwords."""
        return self._connection.pages(RegistryPage, "/registries")

    def set_registry(self, host: str, asked: RegistrySet) -> UserRegistry:
        """Keep who one is at a registry."""
        return self._connection.ask(UserRegistry, "PUT", _path(host), body=asked)

    def delete_registry(self, host: str) -> None:
        """Forget who one is there."""
        self._connection.send("DELETE", _path(host))


def _path(host: str) -> str:
    return f"/registries/{quote(host, safe='')}"
