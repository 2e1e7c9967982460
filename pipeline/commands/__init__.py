"""The commands of `python -m pipeline`, one module each: `add` describes it to argparse, one function runs it.

Modules that bring Keras or TensorFlow are imported inside the functions: a wrong flag is answered at once.
"""
