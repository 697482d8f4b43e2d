"""Repeated values are left to broadcasts, or written out."""

import export_toy as nets
import numpy as np
import pytest
import torch
from of_function import Of
from torch import Tensor, nn

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites.repeats import WriteOutRepeats
from pockethdr.export.targets import TARGETS

REPEATS = {"aten.expand", "aten.repeat", "aten.tile"}


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * _mean(x).expand_as(x),
        lambda x: x * _mean(x).repeat(1, 1, 8, 8),
        lambda x: x + x.mean(1, keepdim=True).expand(-1, 4, -1, -1),
        lambda x: _mean(x).expand(-1, -1, 8, 8) * x.mean(1, keepdim=True).expand(-1, 4, -1, -1),
        lambda x: x[0, 0].expand(1, 4, 8, 8) * x,
    ],
)
def test_a_broadcast_needs_no_repetition(prove, function) -> None:
    done = prove(Of(function), WriteOutRepeats())
    assert not REPEATS & op_counts(done.program).keys()
    assert {proof.detail for proof in done.proofs} == {"broadcast instead"}


@pytest.mark.parametrize(
    ("function", "written"),
    [
        (lambda x: torch.relu(_mean(x).expand_as(x)), {"aten.upsample_nearest2d.vec": 1}),
        (lambda x: _mean(x).expand(-1, -1, 8, 8) * 2, {"aten.upsample_nearest2d.vec": 1}),
        (lambda x: _mean(x) * _mean(x).expand(-1, -1, 8, 8), {"aten.upsample_nearest2d.vec": 1}),
        (lambda x: x.mean(2, keepdim=True).repeat(1, 1, 8, 1), {"aten.upsample_nearest2d.vec": 1}),
        (lambda x: x.mean(1, keepdim=True).repeat(1, 3, 1, 1), {"aten.conv2d": 1}),
        (
            lambda x: x.mean((1, 2, 3), keepdim=True).expand(-1, 3, 8, 8),
            {"aten.conv2d": 1, "aten.upsample_nearest2d.vec": 1},
        ),
        (lambda x: x.repeat(1, 2, 1, 3), {"aten.cat": 2}),
        (lambda x: torch.tile(x, (2, 2)), {"aten.cat": 2}),
    ],
)
def test_others_are_written_out(prove, function, written: dict[str, int]) -> None:
    done = prove(Of(function), WriteOutRepeats())
    counts = op_counts(done.program)
    assert not REPEATS & counts.keys()
    assert {op: counts[op] for op in written} == written


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x.mean(1).repeat(1, 2, 1), "no repetition of feature maps"),
        (lambda x: x.repeat(2, 1, 1, 1), "it repeats images"),
    ],
)
def test_what_is_no_feature_map_stays(prove, function, reason: str) -> None:
    done = prove(Of(function), WriteOutRepeats())
    assert [refusal.reason for refusal in done.refusals] == [reason]


class Described(nn.Module):
    """What the whole image says, beside every pixel of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(12, 8, 3, padding=1), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = torch.relu(self.first(torch.cat([short, mid, long], 1)))
        return torch.sigmoid(self.last(torch.cat([x, _mean(x).expand_as(x)], 1)))


@pytest.mark.parametrize("target", ["onnx", "tflite", "coreml"])
def test_every_target_repeats(target: str, tmp_path) -> None:
    from pockethdr.runtime.runner import open_runner

    torch.manual_seed(0)
    program = nets.static(Described())
    path = tmp_path / f"a{TARGETS[target].suffix}"
    TARGETS[target].build(program, nets.frames(), "fp32", path)
    runner = open_runner(path, target, threads=1)
    out = runner.run(tuple(np.asarray(frame) for frame in nets.frames()))
    runner.close()
    assert nets.psnr(out, nets.run(program, nets.frames())) > 100
