"""Configs: load, override, check, and build what they ask for."""
