"""What is broken on purpose, how often, and what happens: ``python -m benchmarks.faults``."""
