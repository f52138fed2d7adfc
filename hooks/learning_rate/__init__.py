"""Hooks that set the learning rate."""
