"""Operators as XNNPACK is quick at: the same values, otherwise laid out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pockethdr.export.aten import aten, calls, shape
from pockethdr.export.trace import traced
from pockethdr.export.xnnpack import with_rows_of_factors


class _Scaled(nn.Module):
    """Frames of a few channels, less a mean of each and times a factor of each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.mean = nn.Buffer(torch.rand(channels, 1, 1))
        self.factor = nn.Buffer(torch.rand(1, channels, 1, 1) + 0.5)

    def forward(self, short, mid, long):
        return (short - self.mean) * self.factor + (mid - self.mean) / (1 + long)


def _frames(channels: int, height: int = 6, width: int = 10):
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.rand(1, channels, height, width, generator=generator) for _ in range(3))


def _constants(program) -> list[tuple[int, ...]]:
    return sorted(shape(node) for node in program.graph.find_nodes(op="get_attr"))


def test_a_factor_of_few_channels_becomes_as_wide_as_a_row() -> None:
    frames = _frames(8)
    program = traced(_Scaled(8).eval(), frames)
    wide = with_rows_of_factors(program)
    assert _constants(program) == [(1, 8, 1, 1), (8, 1, 1)]
    assert _constants(wide) == [(1, 8, 1, 10), (8, 1, 10)]  # the mean, read twice, only once
    assert torch.equal(wide(*frames), program(*frames))
    assert [shape(node) for node in calls(wide, aten.mul.Tensor)] == [(1, 8, 6, 10)]


@pytest.mark.parametrize(("channels", "width"), [(33, 10), (1, 10), (8, 1)])
def test_what_gains_nothing_stays(channels: int, width: int) -> None:
    program = traced(_Scaled(channels).eval(), _frames(channels, width=width))
    assert _constants(with_rows_of_factors(program)) == _constants(program)


def test_factors_of_pixels_stay() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask = nn.Buffer(torch.rand(1, 1, 6, 10))

        def forward(self, short, mid, long):
            return short * self.mask + mid * 2 + long

    program = traced(Masked().eval(), _frames(8))
    assert _constants(with_rows_of_factors(program)) == [(1, 1, 6, 10)]


def test_litert_computes_the_same(tmp_path: Path) -> None:
    pytest.importorskip("litert_torch")
    from pockethdr.export.targets import TARGETS
    from pockethdr.runtime.runner import open_runner

    frames, path = _frames(8), tmp_path / "a.tflite"
    program = traced(_Scaled(8).eval(), frames)
    TARGETS["tflite"].build(program, frames, "fp32", path)
    runner = open_runner(path, "tflite", layout="NHWC", threads=1)
    found = runner.run(tuple(frame.numpy() for frame in frames))
    runner.close()
    np.testing.assert_allclose(found, program(*frames).numpy(), rtol=1e-5, atol=1e-6)
