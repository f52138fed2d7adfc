"""Measures what the engine leaves of a GPU's throughput: ``python -m benchmarks.gpu``.

A small convolutional network and a small transformer are trained in bf16, compiled, with fused AdamW: by the engine,
and by the plainest loop in PyTorch. Both get the same ready batches in pinned memory and copy them to the GPU. They
take turns, epoch by epoch, in one process; each epoch gives a ratio of throughputs, and the median is the result. The
first epochs, in which the networks are compiled, do not count. Without CUDA nothing is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from emloop_mtl import AbstractDataset, AbstractHook, Action, MainLoop, MultiTaskModel, Task
from emloop_mtl.hooks import ComputeStats, StopAfter

LEAST = 0.97
"""The share of the throughput by hand that the engine is to reach."""

OPTIMIZER: dict[str, Any] = {"lr": 1e-3, "weight_decay": 0.01}
CLASSES = 10
SEED = 5


@dataclass(frozen=True)
class Work:
    """A network to train.

    :param title: what it is
    :param trunk: makes all but its last layer, which returns ``features`` numbers per row
    :param shape: of one row
    :param rows: in a batch
    """

    title: str
    trunk: Callable[[], nn.Module]
    features: int
    shape: tuple[int, ...]
    rows: int


class MeanOverTime(nn.Module):
    """The mean of what a transformer returns for the parts of a sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def make_convolutions(width: int = 64) -> nn.Module:
    """Three convolutions with batch normalization, then the mean over the image."""
    layers: list[nn.Module] = []
    for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def make_transformer(width: int = 256, layers: int = 4) -> nn.Module:
    """An encoder without dropout, then the mean over the sequence."""
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), MeanOverTime())


WORKS = (
    Work("convolutional network, 64 x 64 images", make_convolutions, 256, (3, 64, 64), 256),
    Work("transformer, 4 layers, 128 tokens", make_transformer, 256, (128, 256), 64),
)


class ByHand(AbstractHook):
    """After each epoch of the engine, one of the loop by hand; it measures both.

    :param epoch: trains by hand for as many steps
    :param device: what is waited for before the clock is read
    """

    def __init__(self, epoch: Callable[[], Tensor], device: torch.device) -> None:
        super().__init__()
        self._epoch = epoch
        self._device = device
        self._began = 0.0
        self.seconds: list[tuple[float, float]] = []
        """Of each epoch: by hand, and by the engine."""
        self.losses: list[tuple[float, float]] = []

    def before_epoch(self, epoch_id: int, train_streams: list[str], eval_streams: list[str]) -> None:
        self._began = self._now()

    def after_epoch(self, epoch_id: int, epoch_data: dict[str, dict[str, Any]]) -> None:
        engine = self._now() - self._began
        began = self._now()
        loss = self._epoch()
        self.seconds.append((self._now() - began, engine))
        self.losses.append((float(loss), float(epoch_data["train"]["loss"]["mean"])))

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return perf_counter()


def measure(
    work: Work, device: str, steps: int, epochs: int, compile: bool | Mapping[str, Any] = True, precision: str = "bf16"
) -> ByHand:
    """Train by the engine and by hand, in turns.

    :param steps: in an epoch
    :param epochs: of both
    """
    torch.manual_seed(SEED)
    trunk, head = work.trunk(), nn.Linear(work.features, CLASSES)
    place = torch.device(device)
    batches = _make_batches(work, place)
    hand = _loop_by_hand(nn.Sequential(copy.deepcopy(trunk), copy.deepcopy(head)), place, compile, precision)

    class Ready(AbstractDataset):
        def train_stream(self) -> list[dict[str, Tensor]]:
            return batches

    flow = [Action("features", "trunk", "x"), Action("logits", "head", "features")]
    model = MultiTaskModel(
        [Task("task", modules={"trunk": trunk, "head": head}, flow=flow, label="y", loss="cross_entropy")],
        optimizer={"class": "adamw", **OPTIMIZER},
        device=device,
        precision=precision,
        compile=compile,
    )

    stream = cycle(batches)

    def epoch_by_hand() -> Tensor:
        return hand(islice(stream, steps))

    by_hand = ByHand(epoch_by_hand, place)
    hooks = [ComputeStats(["loss"]), by_hand, StopAfter(epochs=epochs)]
    MainLoop(model, Ready(), hooks, fixed_epoch_size=steps, skip_zeroth_epoch=True).run_training()
    return by_hand


def _make_batches(work: Work, device: torch.device) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(SEED)
    batches = []
    for _ in range(8):
        x = torch.randn(work.rows, *work.shape, generator=generator)
        y = torch.randint(CLASSES, (work.rows,), generator=generator)
        batch = {"x": x, "y": y}
        batches.append({name: v.pin_memory() for name, v in batch.items()} if device.type == "cuda" else batch)
    return batches


def _loop_by_hand(
    network: nn.Module, device: torch.device, compile: bool | Mapping[str, Any], precision: str
) -> Callable[[Any], Tensor]:
    network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True, **OPTIMIZER)
    options = compile if isinstance(compile, Mapping) else {}
    run: Callable[[Tensor], Tensor] = torch.compile(network, **options) if compile is not False else network

    def epoch(batches: Any) -> Tensor:
        total, count = torch.zeros((), device=device), 0
        for batch in batches:
            x, y = (batch[name].to(device, non_blocking=True) for name in ("x", "y"))
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = run(x)
            loss = cross_entropy(logits.float(), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach()
            count += 1
        return total / count

    return epoch


def main() -> None:
    """Measure and print."""
    if not torch.cuda.is_available():
        print("There is no CUDA device: nothing is measured.")
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: throughput in shares of the loop by hand")
    for work in WORKS:
        found = measure(work, "cuda", steps=200, epochs=9)
        shares = [hand / engine for hand, engine in found.seconds[2:]]
        share = median(shares)
        verdict = "holds" if share >= LEAST else f"under {LEAST}"
        print(f"{work.title}: {share:.3f} ({min(shares):.3f} to {max(shares):.3f}), {verdict}")


if __name__ == "__main__":
    main()
