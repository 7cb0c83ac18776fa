"""Measurements: always against something, side by side, in one run. `make bench`; figures go to docs/benchmarks.md."""
