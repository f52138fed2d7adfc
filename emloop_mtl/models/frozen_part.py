"""A part of a network that is frozen as one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from ..errors import ConfigError, nearest


class FrozenPart:
    """Modules and parameters that are frozen together.

    :param modules: names of modules, as ``named_modules`` calls them; all of their parameters
    :param parameters: regular expressions; the parameters in whose names one of them is found
    :param eval_mode: whether the modules run as in evaluation meanwhile
    :raise ConfigError: for what is no regular expression
    """

    def __init__(self, modules: Iterable[str] = (), parameters: Iterable[str] = (), eval_mode: bool = False) -> None:
        self._modules = tuple(modules)
        self._patterns: list[re.Pattern[str]] = []
        self._eval_mode = eval_mode
        for index, pattern in enumerate(parameters):
            try:
                self._patterns.append(re.compile(pattern))
            except re.error as error:
                text = f"{pattern!r} is no regular expression: {error}"
                raise ConfigError(text, ("parameters", index)) from error

    def check(self, network: nn.Module) -> None:
        """Check that a network has each of its modules, and parameters for each of its patterns.

        :raise ConfigError: naming the nearest that there are
        """
        known = _named(network)
        names = [name for name, _ in network.named_parameters(remove_duplicate=False)]
        for index, name in enumerate(self._modules):
            if name not in known:
                hint = "; a parameter is named under 'parameters'" if name in names else nearest(name, known)
                raise ConfigError(f"the model has no module {name!r}{hint}", ("modules", index))
            if not self._eval_mode and not any(True for _ in known[name].parameters()):
                raise ConfigError(f"the module {name!r} has no parameter that could be frozen", ("modules", index))
        for index, pattern in enumerate(self._patterns):
            if not any(map(pattern.search, names)):
                text = f"{pattern.pattern!r} is found in the name of no parameter{nearest(pattern.pattern, names)}"
                raise ConfigError(text, ("parameters", index))

    def parameters_of(self, network: nn.Module) -> list[nn.Parameter]:
        """Return the parameters of a network that belong to it; modules that there are no longer are left out."""
        known = _named(network)
        found = [p for name in self._modules if name in known for p in known[name].parameters()]
        if self._patterns:
            named = network.named_parameters(remove_duplicate=False)
            found += [p for name, p in named if any(pattern.search(name) for pattern in self._patterns)]
        return found

    def evaluated_modules_of(self, network: nn.Module) -> list[nn.Module]:
        """Return the modules of a network that run as in evaluation, with those inside."""
        known = _named(network) if self._eval_mode else {}
        return [module for name in self._modules if name in known for module in known[name].modules()]


def _named(network: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in network.named_modules(remove_duplicate=False) if name}
