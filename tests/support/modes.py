"""Who runs the tests, and so which modes of the local runtime they try.

Tests marked `root` need root, tests marked `user` an ordinary user, those with both marks try the mode that fits. As
root the first are run, and the second by tests/runtimes/local/test_as_user.py, in a clone that belongs to such a user.
"""

import os

import pytest

_ROOT = os.geteuid() == 0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this user cannot try."""
    others = [
        item for item in items if _ROOT and item.get_closest_marker("user") and not item.get_closest_marker("root")
    ]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]
    for item in items:
        if not _ROOT and item.get_closest_marker("root") and not item.get_closest_marker("user"):
            item.add_marker(pytest.mark.skip(reason="needs root"))
