"""Checks API keys and rate limits."""
