"""The shapes in which objects are read: only what is looked at, so that thousands of them cost little.

A reader defines its own struct with the fields it needs (fields that the server adds are skipped, never kept):

    class PodShape(Shape, frozen=True):
        metadata: Metadata
        status: PodStatus = PodStatus()

Names are camelCase in JSON by `Shape`. Everything the server may leave out needs a default. Called by the runtime,
the carriers, client and informer.
"""

from typing import Generic, Protocol, TypeVar

import msgspec

ItemT = TypeVar("ItemT")


class Shape(msgspec.Struct, frozen=True, rename="camel"):
    """What partial structs derive from; subclasses repeat `frozen=True`."""


class OwnerReference(Shape, frozen=True):
    """Which object owns another."""

    kind: str
    name: str
    uid: str


class Metadata(Shape, frozen=True):
    """What every object says of itself; times as the API writes them (RFC 3339)."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class ListMetadata(Shape, frozen=True):
    """What a list says of itself: when it was so, and where its next page is."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Page(Shape, Generic[ItemT], frozen=True):
    """A page of a list."""

    metadata: ListMetadata = ListMetadata()
    items: list[ItemT] | None = None


class Named(Protocol):
    """The least that the metadata of a shape has; `Metadata` is one that does."""

    @property
    def name(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def uid(self) -> str: ...
    @property
    def resource_version(self) -> str: ...


class Readable(Protocol):
    """A shape that an informer can hold."""

    @property
    def metadata(self) -> Named: ...
