"""Predictions, explanations and embeddings by one version: resolution, contracts, readiness, batching, replies."""
