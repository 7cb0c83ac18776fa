"""The programs of the local runtime: the system's, or those that `tools/setup-tests` fetched where it lacks them."""

from pathlib import Path

from neuropod.runtimes.local.tools import Tools, find_tools

FETCHED = Path(__file__).resolve().parents[2] / ".tools" / "programs"


def machine_tools() -> Tools:
    return find_tools(FETCHED)
