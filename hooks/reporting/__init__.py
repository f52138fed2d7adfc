"""Hooks that tell people how the training goes."""
