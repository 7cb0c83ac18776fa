"""Fixtures for all tests; each module under tests/support says what it starts."""

import pytest

pytest.register_assert_rewrite("runtimes.conformance")  # its rules are tests too: a failure shows what was compared

pytest_plugins = ["support.api", "support.databases", "support.modes", "support.oidc", "support.skips"]
