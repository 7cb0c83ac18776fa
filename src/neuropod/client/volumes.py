"""Volumes, by name or id."""

from collections.abc import Iterator
from urllib.parse import quote

from neuropod.client.connection import Connection
from neuropod.wire.volumes import Volume, VolumeCreate, VolumeGrow, VolumePage


class Volumes:
    """`/api/v1/volumes`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_volumes(self, *, everybody: bool = False) -> Iterator[Volume]:
        """Yield one's volumes, newest first; `everybody` is for administrators."""
        return self._connection.pages(VolumePage, "/volumes", params={"everybody": "true"} if everybody else {})

    def show_volume(self, volume: str) -> Volume:
        """Return a volume."""
        return self._connection.ask(Volume, "GET", _path(volume))

    def create_volume(self, asked: VolumeCreate) -> Volume:
        """Make a volume."""
        return self._connection.ask(Volume, "POST", "/volumes", body=asked)

    def grow_volume(self, volume: str, asked: VolumeGrow) -> Volume:
        """Make a volume larger."""
        return self._connection.ask(Volume, "PATCH", _path(volume), body=asked)

    def delete_volume(self, volume: str) -> None:
        """Delete a volume with all that is in it."""
        self._connection.send("DELETE", _path(volume))


def _path(volume: str) -> str:
    return f"/volumes/{quote(volume, safe='')}"
