"""docs/reference/cli.md is what the commands say of themselves."""

import importlib.util
from pathlib import Path

from neuropod.kit.terminal.exits import MEANINGS, Exit

ROOT = Path(__file__).resolve().parents[2]


def _generator():
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "tools" / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date_run_tools_cli_reference():
    assert (ROOT / "docs" / "reference" / "cli.md").read_text() == _generator().page()


def test_every_exit_code_has_a_meaning():
    assert set(MEANINGS) == set(Exit)
