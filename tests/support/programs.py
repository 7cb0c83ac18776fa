"""The programs of the local runtime: the system's, or those that `tools/setup-tests` fetched where it lacks them."""

import shutil
from pathlib import Path

from neuropod.runtimes.local.tools import Tools, find_tools

FETCHED = Path(__file__).resolve().parents[2] / ".tools" / "programs"


def machine_tools() -> Tools:
    return find_tools(FETCHED)


def lay_ready(data_dir: Path) -> None:
    """Put what was fetched where a server would fetch it to: once for all tests, not once for each."""
    tools = data_dir / "cache" / "tools"
    if FETCHED.is_dir() and not tools.exists():
        shutil.copytree(FETCHED, tools)
