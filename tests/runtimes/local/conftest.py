"""Fixtures of the local runtime's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from neuropod.runtimes.local.runtime import LocalRuntime
from runtimes.local.pods import opened


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[LocalRuntime]:
    """Open a runtime in mode root on a data directory of its own; afterwards nothing of it is left."""
    async with opened(tmp_path / "data") as runtime:
        yield runtime
