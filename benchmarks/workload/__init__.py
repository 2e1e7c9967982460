"""The workload of every measured system: one image, one Keras network, and the version that Fovea publishes of it."""
