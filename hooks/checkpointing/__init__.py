"""Hooks that ask for checkpoints."""
