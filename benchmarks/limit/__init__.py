"""What this machine could do at best: the network on OpenVINO and the decoding of the picture, nothing around them."""
