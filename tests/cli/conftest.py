"""A terminal and a played server for each test."""

from pathlib import Path

import pytest

from support.clocks import ManualClock
from support.commands import CommandLine, PlayedServer


@pytest.fixture
def played() -> PlayedServer:
    return PlayedServer()


@pytest.fixture
def line(tmp_path: Path, played: PlayedServer) -> CommandLine:
    return CommandLine(tmp_path, played, ManualClock())
