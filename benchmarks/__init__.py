"""What produces every number in README: `python -m benchmarks`."""
