"""Predictions and explanations by one version: catalog, contracts, resolution, readiness, micro-batching."""
