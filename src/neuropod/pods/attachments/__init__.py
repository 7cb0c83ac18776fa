"""Volumes as pods attach them."""
