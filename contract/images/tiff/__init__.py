"""TIFF by decoder version 2."""
