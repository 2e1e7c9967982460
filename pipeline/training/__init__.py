"""Training: the stages, their data, learning rates, callbacks, checkpoints and warm start."""
