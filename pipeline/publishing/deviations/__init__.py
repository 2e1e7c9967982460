"""How far the outputs of a model may be apart at float32: a limit, and what rounding explains beyond it."""
