"""Serving on engine/: versions loaded and unloaded, calls scheduled and batched, streams and batch sizes tuned."""
