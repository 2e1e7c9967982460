"""Owns the way of other programs' models into a version: SavedModels, Keras files, ONNX files, their labels."""
