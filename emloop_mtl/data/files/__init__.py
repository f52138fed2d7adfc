"""Columns that lie in files."""
