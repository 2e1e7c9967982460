"""What every system is measured with: one picture, one Keras network, and the version that Fovea publishes of it."""
