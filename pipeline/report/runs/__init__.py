"""The page of all runs and versions: what is read of each, and how the page compares them."""
