"""Measures this machine's limit: the network on OpenVINO and the decoding of the image, without a server."""
