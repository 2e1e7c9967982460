"""Owns the commands on versions of the store: import, verify, quantize, promote, roll back, shadow, canary, prune."""
