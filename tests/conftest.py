"""Fixtures for all tests; each module under tests/support says what it starts."""

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("runtimes.conformance")  # its rules are tests too: a failure shows what was compared

pytest_plugins = ["support.api", "support.databases", "support.modes", "support.oidc", "support.skips"]

# What Hypothesis finds is wrong or right; that it took long says only that the machine had other things to do.
settings.register_profile(
    "however long it takes", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("however long it takes")
