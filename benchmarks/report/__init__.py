"""docs/benchmarks.md and its plots, from the JSON files of benchmarks/results/; nothing on it is typed by hand."""
