"""Bicubic and antialiased resizes as products."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pockethdr.export.aten import op_counts
from pockethdr.export.rewrites import matrix_resize
from pockethdr.export.rewrites.matrix_resize import ResizeByMatrix


class Resize(nn.Module):
    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, **self.how)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "how",
    [
        {"scale_factor": 0.5},
        {"scale_factor": (2, 0.25)},
        {"scale_factor": 0.3},
        {"scale_factor": 0.3, "recompute_scale_factor": True},
        {"size": (5, 31)},
        {"size": (24, 9), "align_corners": True},
    ],
    ids=str,
)
def test_is_exact(prove, mode: str, antialias: bool, how: dict[str, Any]) -> None:
    network = Resize(mode=mode, antialias=antialias, **{"align_corners": False, **how})
    done = prove(network, ResizeByMatrix(), shape=(2, 4, 12, 20))
    if (mode, antialias) == ("bilinear", False):
        assert not done.proofs  # every runtime has it
    else:
        assert op_counts(done.program) == {"aten.matmul": 2}


def test_swapped_factors_are_noticed(prove, monkeypatch: pytest.MonkeyPatch) -> None:
    right = matrix_resize._scale
    monkeypatch.setattr(matrix_resize, "_scale", lambda given, axis: right(given, 1 - axis))
    with pytest.raises(Exception, match="matrix_resize"):
        prove(Resize(mode="bicubic", scale_factor=(2.0, 2.1)), ResizeByMatrix())
