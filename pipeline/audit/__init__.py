"""The audit of a set before training: unreadable, doubtful and duplicated images, leaks between splits."""
