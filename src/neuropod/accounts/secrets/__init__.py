"""Secrets that a user keeps by name, for pods to be given."""
