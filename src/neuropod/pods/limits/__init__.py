"""Limits of time: a pod's deadline and its idleness. Deciding is pure; the rows are read and written in store."""
