"""JSON Schema of the config, from the signatures of what can be named in it, for editors."""

from .config_schema import config_schema

__all__ = ["config_schema"]
