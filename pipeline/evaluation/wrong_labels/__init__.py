"""Search for wrong labels: embeddings of held-out folds, and confident learning on them."""
