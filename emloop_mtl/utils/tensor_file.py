"""Writing tensors in the safetensors format, one after the other."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch

from .hashing_writer import HashingWriter

RESERVED_NAME = "__metadata__"
"""The one name that the format keeps for itself."""

DTYPES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
}
"""What the format calls the dtypes that every version of its package reads."""

ALIGNMENT = 8
"""The data begin at a multiple of this many bytes, so that tensors can be mapped into memory."""


def write_tensors(file: HashingWriter, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors of any device and stride as a safetensors file.

    The safetensors package serialises a whole file in memory and leaves it to be read again for its sum; this needs
    memory on the host for one tensor at a time, and for none that is there already.

    :param file: takes the bytes
    :param tensors: name -> tensor of a dtype in ``DTYPES``
    """
    # large items first: every tensor then begins at a multiple of its item size
    ordered = sorted(tensors.items(), key=lambda entry: -entry[1].element_size())
    header: dict[str, object] = {RESERVED_NAME: {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for _, tensor in ordered:
        if tensor.numel():
            plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
            file.write(plain.reshape(-1).view(torch.uint8).numpy().data)
