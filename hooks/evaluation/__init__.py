"""Hooks that evaluate and score."""
