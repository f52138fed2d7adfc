"""Hooks that put numbers in files and services."""
