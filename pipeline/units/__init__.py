"""Numbered units of work on images: run here, by shards, or by the workers of a Ray cluster."""
