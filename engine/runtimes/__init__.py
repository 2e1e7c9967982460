"""Runtimes of networks: OpenVINO and TensorFlow."""
