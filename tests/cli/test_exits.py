"""Exit codes are part of what scripts rely on."""

from neuropod.kit.terminal.exits import MEANINGS, Exit


def test_every_exit_code_has_a_meaning():
    assert set(MEANINGS) == set(Exit)
