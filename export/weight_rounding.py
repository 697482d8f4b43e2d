"""How weights become integers: a scale for each output channel, zero-point 0, codes within ±127."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx

from pockethdr.export.program import add_constant, constant_of, drop_unused_constants

# Half of what 32 bits hold: products come on top.
_MOST_BIAS = 2.0**30


def weight_scales(weight: Tensor, axis: int, *, method: str, least: Tensor | None = None) -> Tensor:
    """One scale per index of `axis`, so that the weights of that channel span ±127.

    A channel of zeros, or one far smaller than the rest, gets a floor.

    Args:
        weight: of a convolution, its output channels along `axis`.
        method: `minmax`, or `mse` (clip each channel where the squared rounding error is least).
        least: no scale is smaller, for each output channel; see `scales_for_bias`.

    Returns:
        float32, one for each output channel.
    """
    rows = weight.detach().movedim(axis, 0).flatten(1).double()
    full = rows.abs().amax(1)
    full = full.clamp_min(max(float(full.max()) * 1e-4, 1e-8))
    if method == "mse":
        full = _least_error(rows, full)
    scales = (full / 127).float()
    return scales if least is None else torch.maximum(scales, least)


def scales_for_bias(bias: Tensor, input_scale: float) -> Tensor:
    """The least weight scales with which a bias fits 32 bits, in steps of both scales.

    With smaller ones the weights count for nothing beside the bias.
    """
    return (bias.detach().double().abs() / (input_scale * _MOST_BIAS)).float()


def with_rounded_weights(program: fx.GraphModule) -> fx.GraphModule:
    """A copy of a quantised program whose weights hold what is left of them once rounded.

    It computes the same. A converter that divides by scales otherwise breaks ties otherwise, and
    here finds none.
    """
    program, ops = copy.deepcopy(program), torch.ops.quantized_decomposed
    for node in list(program.graph.nodes):
        if node.target is ops.quantize_per_channel.default:
            weight, *stored_as = node.args
            scale, zero = (constant_of(part, program) for part in stored_as[:2])
            given = (scale, zero, *stored_as[2:])
            codes = ops.quantize_per_channel.default(constant_of(weight, program), *given)
            settled = ops.dequantize_per_channel.default(codes, *given)
            with program.graph.inserting_before(node):
                rounded = add_constant(program, f"{node.name}_rounded", settled)
            node.replace_input_with(weight, rounded)
    drop_unused_constants(program)
    program.recompile()
    return program


def _least_error(rows: Tensor, full: Tensor) -> Tensor:
    """The best of 41 bounds from 0.6 to 1.0 of the largest magnitude.

    Args:
        rows: Cout×K weights.
        full: Cout largest magnitudes.
    """
    best, error = full, torch.full_like(full, torch.inf)
    for factor in torch.linspace(0.6, 1.0, 41).tolist():
        scale = (full * factor / 127)[:, None]
        codes = (rows / scale).round().clamp(-127, 127)
        now = (codes * scale - rows).square().sum(1)
        best = torch.where(now < error, full * factor, best)
        error = torch.minimum(now, error)
    return best
