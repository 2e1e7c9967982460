"""Owns what evaluations keep of images by their content, for later runs and gates."""
