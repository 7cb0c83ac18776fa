"""Fixtures for all tests; each module under tests/support says what it starts."""

pytest_plugins = ["support.api", "support.databases", "support.modes", "support.skips"]
