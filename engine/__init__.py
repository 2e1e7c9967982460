"""A SavedModel as a callable: signatures, checked inputs, precision. The one owner of how a model runs."""
