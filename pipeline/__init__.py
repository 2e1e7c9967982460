"""A folder of labelled images in, an evaluated and published model version out."""
