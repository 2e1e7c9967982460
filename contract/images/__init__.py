"""Estimates the cost of decoding an image file, and reads single formats; contract/image.py decodes."""
