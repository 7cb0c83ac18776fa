"""The programs that the local runtime starts, found once and named by absolute path.

Called by the server at open (`find_tools`), by `make` (`python -m neuropod.runtimes.local.tools <cache dir>`, which
fetches what the system lacks) and, through its plan, by the shim. Programs run with an empty environment and an
absolute path (SECURITY 1); what a cached one needs to find its libraries stands in its own prefix.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


class ToolsMissingError(Exception):
    """A program is neither on this system nor in the cache, and could not be fetched; the sentence says which."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Argv prefixes: `[*tools.bwrap, "--ro-bind", …]` runs the program. An empty tuple: this machine lacks it."""

    bwrap: tuple[str, ...] = ()
    pasta: tuple[str, ...] = ()
    nft: tuple[str, ...] = ()
    setpriv: tuple[str, ...] = ()
    mkfs_ext4: tuple[str, ...] = ()
    resize2fs: tuple[str, ...] = ()
    rm: tuple[str, ...] = ()
    chmod: tuple[str, ...] = ()

    def as_json(self) -> dict[str, list[str]]:
        """Return what `from_json` reads; part of the shim's plan."""
        return {name: list(prefix) for name, prefix in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Sequence[str]]) -> "Tools":
        """Return the tools that `as_json` wrote."""
        return cls(**{name: tuple(prefix) for name, prefix in data.items()})


def find_tools(cache_dir: Path) -> Tools:
    """Look for each program on the system, then in the cache; never fetches, never fails."""
    raise NotImplementedError


def fetch_tools(cache_dir: Path) -> Tools:
    """Fetch what the system lacks into the cache, then answer as `find_tools`. Raises ToolsMissingError."""
    raise NotImplementedError


def run(argv: Sequence[str], *, stdin: str | None = None, timeout_seconds: float = 30) -> str:
    """Run a tool to its end with an empty environment and return its output; ToolFailedError tells what it said."""
    raise NotImplementedError


class ToolFailedError(Exception):
    """A tool ended with an error; the sentence names it and carries its own words."""
