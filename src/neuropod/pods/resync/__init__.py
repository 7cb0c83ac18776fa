"""Rows and the world compared in bulk. Used by reconcile alone."""
