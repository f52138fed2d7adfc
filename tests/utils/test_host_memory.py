from __future__ import annotations

import pytest
import torch

from emloop_mtl.utils.host_memory import HostMemory

IMAGES = torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last)

KINDS = {
    "plain": torch.arange(6.0),
    "turned": torch.arange(6.0).reshape(2, 3).T,
    "channels_last": IMAGES,
    "row": torch.arange(20.0).reshape(4, 5)[1],
    "column": torch.arange(20.0).reshape(4, 5)[:, 1],
    "spread": torch.ones(3, 1).expand(3, 4),
    "number": torch.tensor(3),
    "none": torch.empty(0, 4),
    "bool": torch.tensor([True, False]),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "conjugate": torch.tensor([1 + 2j]).conj(),
    "negative": torch.tensor([1 + 2j]).conj().imag,
    "trained": torch.nn.Parameter(torch.ones(3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_equal_and_shares_nothing(kind: str) -> None:
    tensor = KINDS[kind]
    copy = HostMemory().copy(tensor)
    assert copy.dtype == tensor.dtype
    assert not copy.requires_grad
    assert not copy.is_conj()
    assert not copy.is_neg()
    torch.testing.assert_close(copy, tensor.detach(), rtol=0, atol=0, check_stride=kind in ("turned", "channels_last"))
    assert copy.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    if tensor.numel():
        assert copy.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()


def test_memory_is_taken_again_once_it_is_given_back() -> None:
    memory = HostMemory()
    first, second = memory.copy(torch.zeros(5)), memory.copy(torch.ones(5))
    memory.reuse()
    again = [memory.copy(torch.full((5,), value)) for value in (2.0, 3.0, 4.0)]
    assert {tensor.data_ptr() for tensor in again} > {first.data_ptr(), second.data_ptr()}
    assert [tensor[0].item() for tensor in again] == [2, 3, 4]
    memory.reuse()
    other = memory.copy(torch.zeros(5, dtype=torch.int32))
    assert other.data_ptr() not in {tensor.data_ptr() for tensor in again}


def test_what_is_not_taken_again_is_let_go() -> None:
    memory = HostMemory()
    memory.copy(torch.zeros(5))
    memory.reuse()
    memory.reuse()
    assert not memory._free
