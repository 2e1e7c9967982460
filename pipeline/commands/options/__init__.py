"""Flags that several commands share: folders, paths, precision, reading of sets, geometry of pictures."""
