"""Networks of the user's own: a list of Keras layers in the recipe, or a Python file."""
