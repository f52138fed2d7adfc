"""Builds a training, runs one batch of every loader and shows what there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..abstract_hook import EVENTS, AbstractHook
from ..batch_gate import BatchGate
from ..config.check import check_config
from ..config.config import Config
from ..config.create import Training, create_training
from ..config.load import load_config
from ..data.batch import Batch
from ..data.stream_wrapper import StreamWrapper
from ..data.task_loader import TaskLoader
from ..errors import DataError
from ..main_loop import MainLoop
from .building import building, running
from .evaluating import check_evaluations
from .scratch_folder import scratch_folder
from .tables import print_table


def check_training(config_path: Path, overrides: Iterable[str], trust_runs: bool = False) -> None:
    """Build the training in a folder that is removed again, run a batch of every loader, and print tables.

    :param trust_runs: as for ``create_training``
    """
    check_built(load_config(config_path, list(overrides)), trust_runs)


def check_built(config: Config, trust_runs: bool = False, more_hooks: Sequence[AbstractHook] = ()) -> None:
    """Check a config that is loaded as ``check_training`` does.

    :param more_hooks: hooks that act after those of the config
    """
    check_config(config)
    with scratch_folder("check") as folder:
        with building(config):
            training = create_training(config, folder / "run", more_hooks=more_hooks, trust_runs=trust_runs)
            training.main_loop.check()
            check_evaluations(training)
        with running(config, lambda: True):
            training.main_loop.try_batches()
            first_batches = {name: list(_first_batches(training, name)) for name in _streams(training)}
        _print_streams(training, first_batches)
        _print_sources(training, first_batches)
        _print_tasks(training.model)
        _print_parameters(training.model)
        _print_hooks(training.main_loop)


def _streams(training: Training) -> list[str]:
    """Return the streams of the dataset, the one to train on first."""
    named = getattr(training.dataset, "stream_names", None)
    main_loop = training.main_loop
    others = named() if callable(named) else main_loop.extra_streams
    return list(dict.fromkeys([main_loop.train_stream_name, *others]))


def _first_batches(training: Training, stream: str) -> Iterator[Batch]:
    """Yield the first batch of every loader of a stream, or of the stream if it has none, after it was run."""
    main_loop = training.main_loop
    info = main_loop.stream_info(stream)
    if info is None:
        with closing(main_loop.get_stream(stream)) as wrapper:
            yield from _run_first(training, wrapper)
        return
    for loader in info.loaders:
        with closing(StreamWrapper(loader.batches, name=stream, prepare=training.model.prepare)) as wrapper:
            yield from _run_first(training, wrapper)
    if info.is_mixed:
        with closing(main_loop.get_stream(stream)) as wrapper:
            yield from _run_first(training, wrapper)


def _run_first(training: Training, stream: StreamWrapper) -> list[Batch]:
    gate = BatchGate(training.model, "error", "error", "warn", None)
    for batch in gate.accepted(stream, train=False):
        try:
            training.model.run(batch, train=False, stream=stream)
        except DataError as error:
            raise error.within(f"stream {stream.name!r}, {batch.place}") from error
        return [batch]
    return []


def _print_streams(training: Training, first_batches: Mapping[str, list[Batch]]) -> None:
    rows = []
    for stream in first_batches:
        info = training.main_loop.stream_info(stream)
        for loader in info.loaders if info is not None else [None]:
            rows.append((stream, *_describe_loader(loader)))
    print_table("Streams", ["stream", "loader", "split", "samples", "batches", "tasks"], rows, ["samples", "batches"])


def _describe_loader(loader: TaskLoader | None) -> tuple[str, ...]:
    if loader is None:
        return "", "", "?", "?", ""
    counts = ("?" if count is None else str(count) for count in (loader.num_samples, loader.num_batches))
    return loader.name, loader.split, *counts, ", ".join(loader.tasks)


def _print_sources(training: Training, first_batches: Mapping[str, list[Batch]]) -> None:
    inputs, labels = set(training.model.input_names), set(training.model.label_names)
    rows: dict[tuple[str, ...], None] = {}  # a dict keeps the order and drops what two streams have in common
    for stream, batches in first_batches.items():
        for batch in batches:
            for source, value in batch.items():
                uses = [use for use, names in (("input", inputs), ("label", labels)) if source in names]
                shape = "×".join(map(str, getattr(value, "shape", (len(value),))))
                row = (stream, batch.data_name, source, _dtype(value), shape, ", ".join(uses) or "not read")
                rows[row] = None
    print_table("Sources in the first batch", ["stream", "loader", "source", "dtype", "shape", "use"], rows)


def _dtype(value: Any) -> str:
    return str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")


def _print_tasks(model: Any) -> None:
    tasks = getattr(model, "tasks", None)
    if not isinstance(tasks, Mapping):
        return
    rows = []
    for name, task in tasks.items():
        flow = " → ".join(f"{action.name} ({action.module})" for action in task.flow)
        rows.append(
            (
                name,
                flow,
                task.label or "",
                task.loss.name if task.loss else "",
                f"{task.weight:g}",
                ", ".join(_metrics(task)),
            )
        )
    print_table("Tasks", ["task", "flow", "label", "loss", "weight", "metrics"], rows, ["weight"])


def _metrics(task: Any) -> list[str]:
    return [] if task.scorer is None else [metric.name for metric in task.scorer.metrics]


def _print_parameters(model: Any) -> None:
    network = getattr(model, "network", model)
    if not hasattr(network, "named_children"):
        return
    rows = [(name, *_count(module.parameters())) for name, module in network.named_children()]
    rows.append(("in all", *_count(network.parameters())))
    print_table("Parameters", ["module", "parameters", "trainable"], rows, ["parameters", "trainable"])


def _count(parameters: Iterable[Any]) -> tuple[str, str]:
    listed = list(parameters)
    in_all = sum(parameter.numel() for parameter in listed)
    trainable = sum(parameter.numel() for parameter in listed if parameter.requires_grad)
    return f"{in_all:,}", f"{trainable:,}"


def _print_hooks(main_loop: MainLoop) -> None:
    rows = list(_acting(main_loop))
    when = "in an evaluation"
    if main_loop.model.can_be_trained:
        steps = main_loop.total_steps
        when = f"in a training {'until a hook or a signal ends it' if steps is None else f'of {steps} steps'}"
    print_table(f"Which hook acts when, {when}", ["event", "hooks, in order"], rows)


def _acting(main_loop: MainLoop) -> Iterator[tuple[str, str]]:
    for event in EVENTS:
        hooks = main_loop.hooks.acting_at(event)
        yield event, ", ".join(hook.name for hook in hooks) or "none"
