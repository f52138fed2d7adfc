"""What the engine costs beside a loop written by hand: ``python -m benchmarks``."""
