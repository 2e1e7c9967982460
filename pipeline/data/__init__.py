"""The labelled images of a run: read from a folder, zip or table, grouped, split and decoded."""
