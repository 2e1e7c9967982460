"""The networks: backbones, heads, pretrained weights, split networks, saliency, and the functions of a SavedModel."""
