"""What a backbone or a head is called with."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from inspect import Parameter

from torch import nn

from ..errors import ConfigError, KeyPath, nearest
from ..tasks.action_input import ActionInput
from .given import Given
from .returned_names import returned_names

BACKBONE = "backbone"
"""The name of the backbone among the components, and of what it returns where that is no mapping."""

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_CATCH = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Component:
    """The arguments of a backbone or a head, and which of the values of a batch it gets for them.

    :param name: ``backbone``, or the head's name
    :param module: the module; its ``forward`` tells the arguments
    :param mapping: what sources, or parts of what the backbone returns, are called here; others keep their names
    :param allowed: the arguments that values are handed over to; None for all that ``forward`` has
    :param path: where the module stands in the config, below the model
    :raise ConfigError: for a module that cannot be called, and for arguments that it does not have
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        mapping: Mapping[str, str] | None = None,
        allowed: Iterable[str] | None = None,
        path: KeyPath = (),
    ) -> None:
        self.name = name
        self.path = path
        self.label = "the backbone" if name == BACKBONE else f"head {name!r}"
        """What messages call it."""
        self.returns = returned_names(module)
        """The names of what it returns as far as that is known: None where it is not, empty for one value."""
        parameters = self._parameters_of(module)
        catches_all = any(entry.kind is Parameter.VAR_KEYWORD for entry in parameters)
        named = {entry.name: entry.default is Parameter.empty for entry in parameters if entry.kind not in _CATCH}
        self._takes_any = catches_all and allowed is None
        self._required = named if allowed is None else self._allowed(allowed, named, catches_all)
        self.positions = tuple(entry.name for entry in parameters if entry.kind is Parameter.POSITIONAL_ONLY)
        """Arguments that can be given by position only."""
        in_order = [entry.name for entry in parameters if entry.kind in _BY_POSITION and entry.name in self._required]
        self.first = in_order[0] if in_order else None
        """The argument that a single value by position goes to."""
        self._mapping = self._checked_mapping(mapping or {})

    @property
    def takes_any(self) -> bool:
        """Whether every value of a batch is handed over, as to ``**kwargs``."""
        return self._takes_any

    @property
    def mapped(self) -> Collection[str]:
        """The names that are called otherwise here."""
        return self._mapping.keys()

    @property
    def names(self) -> list[str]:
        """The names of all that is handed over where a batch, or the backbone, has it."""
        return [*(name for name in self._required if name not in self._mapping), *self._mapping]

    def takes(self, backbone: Component) -> ActionInput | None:
        """Return what a head with a single argument gets of the backbone unless a batch holds a source in its place.

        :param backbone: what is run before; where it is not known what it returns, the most likely form
        :return: all that the backbone returns, or a part; None for a head that may get anything else
        """
        if self._takes_any or len(self._required) != 1:
            return None
        if backbone.returns == ():
            return ActionInput(BACKBONE)
        known = self._mapping if backbone.returns is None else backbone.returns
        parts = [name for name in known if name != BACKBONE and self._argument(name) == self.first]
        if not parts and backbone.returns is None:
            return ActionInput(BACKBONE)
        return ActionInput(BACKBONE, (parts[0],)) if len(parts) == 1 else None

    def bind(self, sources: Collection[str], encoded: Collection[str] | None = None) -> tuple[Given, ...]:
        """Return what each argument gets. A source takes the place of what the backbone returns under its name.

        :param sources: the names of the sources of a batch
        :param encoded: for a head, the names of what the backbone returns, empty if that is one value: it goes to the
            head's first argument, or to the one that ``backbone`` is mapped to
        :raise ConfigError: if several values would go to one argument, or none to one that has no default
        """
        found = self._find(sources, encoded)
        self._check_missing(found, sources, encoded)
        return tuple(found.values())

    def check(self, sources: Collection[str], backbone: Component) -> tuple[Given, ...]:
        """Do what ``bind`` does before the backbone has been run.

        :param sources: the names of the sources of a batch
        :param backbone: what is run before; where it is not known what it returns, it may return what is missing
        """
        if backbone.returns is not None:
            return self.bind(sources, backbone.returns)
        return tuple(self._find(sources, None).values())

    def _find(self, sources: Collection[str], encoded: Collection[str] | None) -> dict[str, Given]:
        found: dict[str, Given] = {}
        is_one_value = encoded is not None and not encoded
        if is_one_value:
            argument = self._argument(BACKBONE) or self.first
            if argument is not None:
                found[argument] = Given(argument, BACKBONE, True)
        names = [(name, False) for name in sources]
        names += [(name, True) for name in encoded or () if name not in sources]
        for name, is_encoded in names:
            argument = self._argument(name)
            if argument is None:
                continue
            if argument in found:
                other = found[argument].name
                if is_one_value and other == BACKBONE and name not in self._mapping:
                    continue
                text = f"{self.label}: {other!r} and {name!r} both go to its argument {argument!r} in one batch"
                path = ("arg_name_mapping", self.name, name if name in self._mapping else other)
                raise ConfigError(f"{text}; map one of them to another one in arg_name_mapping.{self.name}", path)
            found[argument] = Given(argument, name, is_encoded)
        return found

    def _check_missing(
        self, found: Mapping[str, Given], sources: Collection[str], encoded: Collection[str] | None
    ) -> None:
        missing = [name for name, is_required in self._required.items() if is_required and name not in found]
        if not missing:
            return
        mapped = [name for name, argument in self._mapping.items() if argument == missing[0]]
        if mapped:
            is_told = "neither a source nor among what the backbone returns" if encoded else "no source"
            hint = nearest(mapped[0], [*sources, *(encoded or ())])
            text = f"{self.label}: {mapped[0]!r}, which is mapped to its argument {missing[0]!r}, is {is_told}{hint}"
            raise ConfigError(text, ("arg_name_mapping", self.name, mapped[0]))
        told = "" if encoded is None else f" and nothing that the backbone returns ({_listed(encoded)})"
        text = f"{self.label}: no source{told} is called like its argument {missing[0]!r}"
        known = [*sources, *(encoded or ())]
        hint = nearest(missing[0], [name for name in known if name not in {given.name for given in found.values()}])
        text = f"{text}{hint if 'did you mean' in hint else ''}"
        sign = " Or" if text.endswith("?") else ";"
        setting = f"arg_name_mapping.{self.name}: {{NAME: {missing[0]}}}"
        raise ConfigError(f"{text}{sign} set {setting} to give it one of another name", self.path)

    def _argument(self, name: str) -> str | None:
        """Return the argument that a value of this name goes to, None if to none."""
        argument = self._mapping.get(name, name)
        return argument if self._takes_any or argument in self._required else None

    def _parameters_of(self, module: nn.Module) -> Sequence[Parameter]:
        if type(module).forward is nn.Module.forward and "forward" not in vars(module):
            raise ConfigError(f"{self.label}: {type(module).__name__} has no method 'forward'", self.path)
        try:
            return list(inspect.signature(module.forward).parameters.values())
        except (TypeError, ValueError) as error:
            text = f"{self.label}: the arguments of {type(module).__name__}.forward are not known ({error})"
            raise ConfigError(f"{text}; write a module around it", self.path) from error

    def _allowed(self, allowed: Iterable[str], named: Mapping[str, bool], catches_all: bool) -> dict[str, bool]:
        path = ("allowed_arguments", self.name)
        if (
            isinstance(allowed, str)
            or not isinstance(allowed, Iterable)
            or not all(isinstance(name, str) for name in allowed)
        ):
            raise ConfigError(f"allowed_arguments.{self.name} must be a list of names, not {allowed!r}", path)
        kept = dict.fromkeys(allowed)
        for name in kept:
            if name not in named and not catches_all:
                raise ConfigError(f"{self.label} has no argument {name!r}{nearest(name, named)}", path)
        for name, is_required in named.items():
            if is_required and name not in kept:
                text = f"{self.label} cannot be called without its argument {name!r}"
                raise ConfigError(f"{text}; add it to allowed_arguments.{self.name}", path)
        return {name: named.get(name, False) for name in (*(n for n in named if n in kept), *(kept.keys() - named))}

    def _checked_mapping(self, mapping: Mapping[str, str]) -> dict[str, str]:
        path = ("arg_name_mapping", self.name)
        for name, argument in mapping.items():
            if not isinstance(argument, str) or (argument not in self._required and not self._takes_any):
                hint = nearest(str(argument), self._required)
                raise ConfigError(f"{self.label} takes no argument {argument!r}{hint}", (*path, name))
        return dict(mapping)


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) or "one value"
