"""Trainings by Fovea and by plain Keras, which take turns epoch by epoch."""
