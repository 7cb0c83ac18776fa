"""The server itself: what runs here, and for administrators how it is."""

from datetime import datetime
from typing import Any

from neuropod.wire.shapes import Answer


class Guarantee(Answer):
    """One thing that a runtime keeps apart, or does not."""

    name: str
    holds: bool
    message: str


class RuntimeCapacity(Answer):
    """What a runtime can promise in all, and what of it is taken."""

    cpu_cores: int
    cpu_cores_taken: int
    memory_bytes: int
    memory_bytes_taken: int
    disk_bytes: int
    disk_bytes_taken: int
    devices: int
    devices_taken: int


class Runtime(Answer):
    """What runs pods here."""

    id: str
    name: str = ""
    """What the settings and GPU types call it."""

    capabilities: list[str]
    mode: str | None = None
    """How it isolates. This and what follows is for administrators."""

    guarantees: list[Guarantee] | None = None
    notes: list[str] | None = None
    capacity: RuntimeCapacity | None = None


class UnopenedRuntime(Answer):
    """A runtime of the settings that cannot be opened now; it is tried again."""

    name: str
    why: str


class Part(Answer):
    """A loop or another part of the server that reports its health."""

    name: str
    ok: bool
    needed: bool
    """Whether the server is not ready without it."""

    message: str
    at: datetime | None
    """When it reported last."""

    details: dict[str, Any]
    """For operators: reason and duration of the last pass, its counts."""


class Server(Answer):
    """A server that shares the database."""

    id: str
    name: str
    """Its machine's."""

    version: str
    started_at: datetime
    runtimes: list[str]
    """Those that it serves."""

    lease_until: datetime
    """When it counts as gone if it says nothing until then."""


class System(Answer):
    """The server."""

    version: str
    console_url: str
    api_url: str
    runtimes: list[Runtime]
    unopened: list[UnopenedRuntime] | None = None
    """For administrators: what is away; its pods are unreachable."""

    parts: list[Part] | None = None
    """For administrators: the board that loops report to."""

    servers: list[Server] | None = None
    """For administrators: who shares the database; empty where one server is alone (SQLite)."""
