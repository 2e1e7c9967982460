"""Features of frozen networks: computed once per image and view, and kept on disk."""
