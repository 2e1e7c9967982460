"""Measures every number in README: `python -m benchmarks`."""
