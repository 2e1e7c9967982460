"""The recipe of a run: its sections, their defaults and limits, and the recipes that are shipped."""
