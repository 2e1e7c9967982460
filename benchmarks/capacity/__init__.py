"""Computes the pods that a rate takes, from measured costs."""
