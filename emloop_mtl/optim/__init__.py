"""Optimizers by name, learning rate, and the update."""
