"""A run from images to a published version: its stages in order, the audit and split before them, and resuming."""
