"""A dataset configured as emloop's are."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import Any

from ..errors import ConfigError, nearest
from .abstract_dataset import AbstractDataset


class BaseDataset(AbstractDataset):
    """A dataset that receives its settings in ``_configure_dataset``, by name.

    :param config_str: YAML text of one mapping; ``output_dir`` in it, if the method takes it, is the folder of the run
    :raise ConfigError: if the text is no mapping, or its keys are not what ``_configure_dataset`` takes
    """

    def __init__(self, config_str: str) -> None:
        super().__init__(config_str)
        config = _parse(config_str)
        parameters = inspect.signature(self._configure_dataset).parameters
        takes_more = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        if "output_dir" in parameters:
            config.setdefault("output_dir", None)
        elif not takes_more:
            config.pop("output_dir", None)
        for key in config:
            if key not in parameters and not takes_more:
                raise ConfigError(f"{type(self).__name__}: unknown argument {key!r}{nearest(key, parameters)}", (key,))
        missing = [
            key
            for key, parameter in parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and key not in config
        ]
        if missing:
            raise ConfigError(f"{type(self).__name__}: the setting {missing[0]!r} is missing")
        self._configure_dataset(**config)

    @abstractmethod
    def _configure_dataset(self, output_dir: str | None, **config: Any) -> None:
        """Take the settings.

        :param output_dir: the folder of the run, None if there is none
        """


def _parse(config_str: str) -> dict[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        config = YAML(typ="safe", pure=True).load(config_str)
    except YAMLError as error:
        raise ConfigError(f"the settings of the dataset are no YAML: {' '.join(str(error).split())}") from error
    if config is None:
        return {}
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise ConfigError(f"the settings of the dataset are a {type(config).__name__}; a mapping of names is needed")
    return config
