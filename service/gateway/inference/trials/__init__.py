"""Shadow and canary: a model's candidate on a share of the live traffic."""
