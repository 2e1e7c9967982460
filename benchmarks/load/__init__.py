"""A closed-loop load generator on one thread: `python -m benchmarks.load` takes a plan as JSON, tells what happened."""
