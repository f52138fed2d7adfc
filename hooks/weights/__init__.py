"""Hooks that act on the weights."""
