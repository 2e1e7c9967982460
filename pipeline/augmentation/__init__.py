"""Random changes to training images: the engines that make them, and a preview."""
