"""Predictions and explanations by one version: catalog, attempts, contracts, readiness, micro-batching."""
