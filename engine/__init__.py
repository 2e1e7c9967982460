"""A SavedModel as a callable: signatures, checked inputs, precision; nothing about queues."""
