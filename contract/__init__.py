"""Defines a model's contract, and the pixels, tensors and labels that training and serving share."""
