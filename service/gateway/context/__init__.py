"""Shared by every room of the gateway: request context, deadlines, errors, settings."""
