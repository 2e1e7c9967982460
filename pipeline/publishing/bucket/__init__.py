"""Owns a model store's copy in object storage: what is there, and how it is brought in line with a folder."""
