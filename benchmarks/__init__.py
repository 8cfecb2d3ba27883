"""What the project's claims on speed rest on: ``python -m benchmarks.speed`` measures all of it."""
