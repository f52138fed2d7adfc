from __future__ import annotations

import pytest
import torch

from benchmarks import gpu


@pytest.mark.long
@pytest.mark.parametrize(
    "work",
    [
        gpu.Work("convolutions", lambda: gpu.make_convolutions(2), 8, (3, 8, 8), 4),
        gpu.Work("transformer", lambda: gpu.make_transformer(8, 1), 8, (3, 8), 4),
    ],
    ids=lambda work: work.title,
)
def test_both_loops_do_the_same_work(work: gpu.Work) -> None:
    found = gpu.measure(work, "cpu", steps=3, epochs=2, compile={"backend": "eager"}, precision="fp32")
    assert len(found.seconds) == 2
    for by_hand, engine in found.losses:
        # The mean over an epoch is taken in float32 by the loop, in float64 by the engine.
        assert engine == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, which would be measured")
def test_without_cuda_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main()
    assert capsys.readouterr().out == "There is no CUDA device: nothing is measured.\n"
