"""Signing in by another provider (OpenID Connect): talking to it, judging what it says, and whose account it opens."""
