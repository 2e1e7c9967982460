"""The HTML report of a run: its figures, pictures and model card."""
