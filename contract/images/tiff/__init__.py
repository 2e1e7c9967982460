"""Reads TIFF images by decoder version 2: `reader.py` finds the picture's page and decodes it."""
