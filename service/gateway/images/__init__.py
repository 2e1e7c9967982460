"""Uploads to decoded arrays, bounded in bytes, pixels, memory and time."""
