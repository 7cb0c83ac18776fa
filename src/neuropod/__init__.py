"""Neuropod, a self-hosted GPU cloud. docs/architecture.md maps the packages, docs/glossary.md holds the words."""

__version__ = "0.1.0"
