"""The table of metrics that recipe, gate, report and commands read, and the functions behind it."""
