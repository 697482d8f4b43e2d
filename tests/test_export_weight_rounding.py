"""Weights in steps of their channel's scale."""

import copy

import export_toy as nets
import numpy as np
import pytest
import torch

from pockethdr.export.program import constant_of
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import LITERT_INT8
from pockethdr.export.weight_rounding import weight_scales, with_rounded_weights


def test_clipping_weights_by_squared_error_is_no_worse() -> None:
    weight = torch.randn(4, 64, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.01
    weight[:, 0, 0, 0] = 0.06  # one weight just outside the others

    def error(method: str) -> float:
        scale = weight_scales(weight, 0, method=method)[:, None, None, None]
        return float(((weight / scale).round().clamp(-127, 127) * scale - weight).square().sum())

    assert error("mse") < error("minmax")


def test_a_channel_of_zeros_has_a_scale() -> None:
    weight = torch.zeros(2, 3, 1, 1)
    weight[0] = 1.0
    scales = weight_scales(weight, 0, method="minmax")
    assert scales[0] == pytest.approx(1 / 127)
    assert scales[1] > 1e-7


def test_a_bias_beyond_32_bits_of_small_scales_makes_them_larger() -> None:
    """In steps of 1e-9 · 1e-6 it would be 3e15, wrap, and be another bias."""
    plain = copy.deepcopy(nets.toy())
    conv = next(m for m in plain.graph.nodes if m.name == "conv2d_1")
    bias = constant_of(conv.args[2], plain)
    bias.detach().fill_(3.0)
    ranges = {**nets.ranges_of(plain), conv.args[0].name: (0.0, 255e-9)}
    program = quantized(plain, ranges, RECIPES["all-but-last"], LITERT_INT8).program
    kernel = next(n for n in program.graph.nodes if n.name == conv.name)
    scales = constant_of(kernel.args[1].args[1], program)
    step = scales.double() * kernel.args[0].args[1]
    assert float((3.0 / step).max()) <= 2**30 * 1.001


def test_rounded_weights_compute_the_same_and_round_no_further() -> None:
    plain = nets.toy()
    program = quantized(plain, nets.ranges_of(plain), RECIPES["hdr-ends"], LITERT_INT8).program
    rounded = with_rounded_weights(program)
    assert np.array_equal(nets.run(rounded, nets.frames()), nets.run(program, nets.frames()))
    pairs = [n for n in rounded.graph.nodes if ".quantize_per_channel" in str(n.target)]
    assert len(pairs) == 8
    for pair in pairs:
        weight, scale = (constant_of(part, rounded) for part in pair.args[:2])
        codes = weight / scale.reshape(-1, 1, 1, 1)
        assert torch.allclose(codes, codes.round(), atol=1e-4)
