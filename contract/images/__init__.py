"""What decoding an image file takes, and readers of single formats; contract/image.py decodes."""
