"""Averages of the weights that a model trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from emloop_mtl.errors import CheckpointError
from emloop_mtl.models.multi_task_model import MultiTaskModel
from emloop_mtl.optim.stacked_name import StackedName
from emloop_mtl.optim.stacked_state import split_tensor
from emloop_mtl.types import State


class WeightAverage:
    """Averages of the parameters that a model trains, which can take the place of these.

    A parameter has one from the first ``add`` that finds it trained, beginning with its value, and as long as it is
    part of the model.

    :param model: the model
    :param is_saved: whether checkpoints have the averages as the weights of the model
    """

    def __init__(self, model: MultiTaskModel, is_saved: bool) -> None:
        self._model = model
        self._is_saved = is_saved
        self._averages: dict[str, Tensor] = {}
        self._owners: dict[str, nn.Parameter] = {}
        """The parameter that each average is of."""
        self._known: Mapping[str, nn.Parameter] | None = None
        """What was trained when ``_pairs`` was made."""
        self._pairs: list[tuple[list[Tensor], list[Tensor]]] = []
        """Averages and what they are of, all of one device and dtype together, as one operation takes them."""
        self._restored: dict[str, State] | None = None
        self._is_left = False

    def add(self, share: float) -> None:
        """Move each average towards the trained value by this share of the difference."""
        trained = self._model.update.parameters
        if trained is not self._known:
            self._pair(trained)
        for averages, values in self._pairs:
            torch._foreach_lerp_(averages, values, share)
        self._is_left = False

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the model hold the averages, and afterwards what was trained again, bit for bit.

        Nothing asks for the state meanwhile.
        """
        if self._is_left:
            yield
            return
        owners = dict(self._owners)
        aside = {name: owner.detach().clone() for name, owner in owners.items()}
        try:
            _copy(self._averages, owners)
            yield
        finally:
            _copy(aside, owners)  # of a task that was changed meanwhile, to what nobody uses any more

    def leave_in_place(self) -> None:
        """Have the model hold the averages for good, or until it is trained again."""
        _copy(self._averages, self._owners)
        self._is_left = True

    def exchange(self, weights: dict[str, State]) -> dict[str, State]:
        """Return the weights of a model with the averages in the place of what was trained."""
        average_of = {owner: self._averages[name] for name, owner in self._owners.items()}
        named = self._model.network.named_parameters(remove_duplicate=False)  # of tied weights, each name
        return {**weights, **{name: average_of[owner] for name, owner in named if owner in average_of}}

    def state_dict(self) -> dict[str, State]:
        """Return the averages; where these are saved as the model's weights, what was trained."""
        if self._restored is not None:
            return self._restored
        self._forget_replaced()
        weights: dict[str, State] = dict(self._averages)
        if self._is_saved:
            weights = {name: owner.detach() for name, owner in self._owners.items()}
        return {"trained": self._is_saved, "weights": weights}

    def load_state_dict(self, state: Mapping[str, State]) -> None:
        """Go on from what ``state_dict`` returned as soon as ``take_up`` is called."""
        weights = dict(state["weights"])
        if type(state["trained"]) is not bool or not all(isinstance(each, Tensor) for each in weights.values()):
            raise ValueError("it speaks of no weights")
        self._restored = {"trained": state["trained"], "weights": weights}
        self._averages, self._owners, self._known, self._pairs = {}, {}, None, []
        self._is_left = False

    def take_up(self) -> None:
        """Go on from the state that was restored last, if any, now that the model's is restored as well.

        :raise CheckpointError: if it is of other parameters
        """
        if self._restored is None:
            return
        found = dict(self._model.network.named_parameters())
        weights: dict[str, Tensor] = self._restored["weights"]
        self._owners = {name: found[name] for name in weights if name in found}
        for name, owner in self._owners.items():
            if weights[name].shape != owner.shape:
                shapes = f"{list(weights[name].shape)}, but the parameter {list(owner.shape)}"
                raise CheckpointError(f"what the checkpoint says of the average of {name!r} is {shapes}")
        if self._restored["trained"]:
            self._averages = {name: owner.detach().clone() for name, owner in self._owners.items()}
            _copy(weights, self._owners)
        else:
            self._averages = {name: torch.empty_like(owner.detach()) for name, owner in self._owners.items()}
            _copy(weights, self._averages)
        self._restored = None

    def _pair(self, trained: Mapping[str, nn.Parameter]) -> None:
        """Lay the averages out like what is trained: those of parameters that are one are one as well."""
        self._forget_replaced()
        owners = dict(self._model.network.named_parameters())
        joined = {member for name in trained if isinstance(name, StackedName) for member in name.members}
        rest = {name: owner for name, owner in self._owners.items() if name not in joined}
        pairs: dict[object, tuple[list[Tensor], list[Tensor]]] = {}
        for name, parameter in {**rest, **trained}.items():
            value = parameter.detach()
            parts = dict(split_tensor(name, value))
            if not parts.keys() <= owners.keys():
                continue  # no weight of the network, but what a hook has the optimizer train beside
            if name in self._averages:
                average = self._averages[name]
            else:
                olds = [self._averages.get(member, part) for member, part in parts.items()]
                average = torch.cat(olds) if len(olds) > 1 else value.clone()
                self._averages.update(split_tensor(name, average))
                self._owners.update((member, owners[member]) for member in parts)
            averages, values = pairs.setdefault((value.device, value.dtype), ([], []))
            averages.append(average)
            values.append(value)
        self._known, self._pairs = trained, list(pairs.values())

    def _forget_replaced(self) -> None:
        """Forget the averages of parameters that no longer belong to the model."""
        found = dict(self._model.network.named_parameters())
        for name in [name for name, owner in self._owners.items() if found.get(name) is not owner]:
            del self._owners[name], self._averages[name]


def _copy(values: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> None:
    if targets:
        torch._foreach_copy_([target.detach() for target in targets.values()], [values[name] for name in targets])
