"""What the project's claims on quality rest on: ``python -m benchmarks.quality``."""
