"""The prover notices rewrites that are almost right."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, fx, nn

from pockethdr.export.aten import Conv, convs, emit_conv
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import ProofError, Replacement
from pockethdr.export.rewrites import polyphase, strided, unshuffle_conv
from pockethdr.export.rewrites.fold_constants import FoldConstants
from pockethdr.export.rewrites.polyphase import PolyphaseDilated
from pockethdr.export.rewrites.strided import UnshuffleStridedConv
from pockethdr.export.rewrites.unshuffle_conv import MergeUnshuffleConv


class ScaledWeights:
    """Replaces a convolution by the same one with slightly other weights."""

    name = "scaled"

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        return convs(program)

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        conv = Conv(node)
        weight = constant_of(conv.weight, program)
        assert weight is not None
        return Replacement(emit_conv(program, conv.input, weight * self.scale, conv.bias))


@pytest.mark.parametrize("scale", [1.001, 1 + 1e-8])
def test_scaled_weights_are_noticed(prove, scale) -> None:
    with pytest.raises(ProofError, match="`scaled` changed `conv2d`"):
        prove(nn.Conv2d(4, 4, 3, bias=False), ScaledWeights(scale))
    assert prove(nn.Conv2d(4, 4, 3), ScaledWeights(1.0)).proofs[0].max_relative_error == 0


def test_swapped_phases_are_noticed(prove, monkeypatch) -> None:
    net = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=2, dilation=2) for _ in range(2)))
    prove(net, PolyphaseDilated())
    monkeypatch.setattr(polyphase, "_PHASES", ((0, 0), (1, 0), (0, 1), (1, 1)))
    with pytest.raises(ProofError, match="polyphase"):
        prove(net, PolyphaseDilated())


@pytest.mark.parametrize(
    ("module", "function", "net", "rewrite"),
    [
        (
            unshuffle_conv,
            "_spread",
            nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(16, 4, 3, padding=1)),
            MergeUnshuffleConv(),
        ),
        (strided, "_phases", nn.Conv2d(4, 4, 5, 2, 2), UnshuffleStridedConv()),
    ],
)
def test_transposed_taps_are_noticed(prove, monkeypatch, module, function, net, rewrite) -> None:
    prove(net, rewrite)
    right = getattr(module, function)

    def wrong(*args: object) -> Tensor:
        return right(*args).transpose(2, 3)

    monkeypatch.setattr(module, function, wrong)
    with pytest.raises(ProofError, match=rewrite.name):
        prove(net, rewrite)


def test_a_nan_is_no_proof(prove) -> None:
    with pytest.raises(ProofError):
        prove(nn.Conv2d(4, 4, 3), ScaledWeights(float("nan")))


def test_the_error_is_the_largest_of_all_inputs(prove) -> None:
    done = prove(nn.Conv2d(4, 4, 3), ScaledWeights(1 + 1e-12))
    assert 0 < done.proofs[0].max_relative_error < 1e-10
    assert torch.is_tensor(done.program.const_weight)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        box = torch.full((4, 4, 3, 3), 0.1)
        return self.conv((x > 0).float()) + nn.functional.conv2d(x, box)


def test_conversions_to_float32_are_proved_in_float64(prove) -> None:
    done = prove(Masked(), FoldConstants())
    assert max(proof.max_relative_error for proof in done.proofs) == 0
    assert done.program(torch.rand(1, 4, 8, 8)).dtype == torch.float32
