"""Hooks that end a training."""
