"""Owns the comparison of outputs at float32: a limit, and the part of rounding beyond it."""
