"""``emloop-mtl hooks``."""

from __future__ import annotations

import click

from ..errors import ConfigError
from .options import json_option, overrides_argument, verbose_option
from .reporting import reported

EXAMPLE = """\b
Example:
  emloop-mtl hooks
  emloop-mtl hooks SaveBest
  emloop-mtl hooks config.yaml
"""


@click.command(epilog=EXAMPLE)
@click.argument("what", metavar="[HOOK|CONFIG]", required=False)
@overrides_argument
@json_option
@verbose_option
def hooks(what: str | None, overrides: tuple[str, ...], as_json: bool, verbose: bool) -> None:
    """List all hooks by concern; or explain a HOOK; or show in which order the hooks of a file CONFIG act.

    A HOOK is explained by its arguments, their defaults, the events at which it acts, and an example in YAML; hooks of
    one's own are named as in a config, such as my_module.MyHook. For a CONFIG neither data nor a model are needed, and
    KEY=VALUE overrides an entry of it.
    """
    with reported(verbose):
        from .explaining import explain_hook, is_config, list_hooks, show_order

        if what is not None and is_config(what):
            show_order(what, overrides, as_json)
        elif overrides:
            raise ConfigError(f"{overrides[0]}: KEY=VALUE overrides an entry of a config; {what} is none")
        elif what is not None:
            explain_hook(what, as_json)
        else:
            list_hooks(as_json)
