from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from emloop_mtl.utils.files import sha256_of
from emloop_mtl.utils.hashing_writer import HashingWriter
from emloop_mtl.utils.tensor_file import DTYPES, write_tensors

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def write(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with HashingWriter(path) as file:
        write_tensors(file, tensors)
    assert file.size == path.stat().st_size
    assert file.sha256 == sha256_of(path)
    return load_file(path)


@pytest.mark.parametrize("device", DEVICES)
def test_the_package_reads_what_is_written(tmp_path: Path, device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    for dtype in DTYPES:  # odd sizes, so that the alignment matters
        for shape in [(), (1,), (3, 5), (0,), (2, 0, 3)]:
            values = torch.randint(0, 2 if dtype is torch.bool else 100, shape, generator=generator)
            tensors[f"{dtype} {shape} ž\n"] = values.to(dtype).to(device)
    table = torch.arange(24.0, device=device).reshape(4, 6)
    tensors |= {"row": table[1], "column": table[:, 2], "turned": table.T, "spread": table[:, :1].expand(4, 3)}
    read = write(tmp_path / "a", tensors)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        if tensor.numel():  # compared by bits: some of the dtypes know no equality
            bits = [value.cpu().contiguous().reshape(-1).view(torch.uint8) for value in (tensor, read[name])]
            assert torch.equal(*bits)


def test_an_empty_file_is_valid(tmp_path: Path) -> None:
    assert write(tmp_path / "a", {}) == {}
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_every_tensor_is_aligned(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(3, dtype=torch.bool), "b": torch.ones(5, dtype=torch.float64), "c": torch.ones(1)}
    for name, tensor in write(tmp_path / "a", tensors).items():
        assert tensor.data_ptr() % tensor.element_size() == 0, name
