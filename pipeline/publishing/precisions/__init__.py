"""Precisions faster than float32: the rule by which they are judged, and the int8 model of a version."""
