"""The synthetic fundus set: drawn photographs of optic discs, for examples and tests without real data."""
