"""Fixtures of the local runtime's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from neuropod.runtimes.local.runtime import LocalRuntime
from runtimes.local.pods import MODE, opened


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[LocalRuntime]:
    """Open a runtime in this user's mode on a data directory of its own; afterwards nothing of it is left."""
    async with opened(tmp_path / "data", mode=MODE) as runtime:
        yield runtime
