"""Scores a folder in numbered units, by one process, by shards or by a cluster, so that a rerun resumes."""
