"""Request bodies: read and inflated within bounds, JSON parsed off the event loop, callers in turns."""
