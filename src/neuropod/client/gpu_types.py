"""GPU types: what is on offer, and what administrators make of it."""

from collections.abc import Iterator
from urllib.parse import quote

from neuropod.client.connection import Connection
from neuropod.wire.gpu_types import GpuType, GpuTypeCreate, GpuTypeEdit, GpuTypePage


class GpuTypes:
    """`/api/v1/gpu-types`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list_gpu_types(self) -> Iterator[GpuType]:
        """Yield the types on offer; administrators get those too that are withdrawn."""
        return self._connection.pages(GpuTypePage, "/gpu-types")

    def create_gpu_type(self, body: GpuTypeCreate) -> GpuType:
        """Offer a type."""
        return self._connection.ask(GpuType, "POST", "/gpu-types", body=body)

    def edit_gpu_type(self, name: str, body: GpuTypeEdit) -> GpuType:
        """Change a type."""
        return self._connection.ask(GpuType, "PATCH", f"/gpu-types/{quote(name, safe='')}", body=body)

    def delete_gpu_type(self, name: str) -> None:
        """Delete a type of which there is no pod."""
        self._connection.send("DELETE", f"/gpu-types/{quote(name, safe='')}")
