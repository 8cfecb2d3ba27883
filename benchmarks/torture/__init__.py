"""What is done to the whole, and how each attempt ended: ``python -m benchmarks.torture``."""
