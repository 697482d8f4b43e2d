"""Q/DQ programs as a careless converter would lower them."""

from __future__ import annotations

import copy

import torch
from torch import fx

from pockethdr.export.aten import Conv, is_conv
from pockethdr.export.program import add_constant, constant_of


def with_scaled_weights(program: fx.GraphModule, factor: float) -> fx.GraphModule:
    """The scales of all weights times `factor`; folded integers stay as they are."""
    broken = copy.deepcopy(program)
    pairs = [n for n in broken.graph.nodes if "dequantize_per_channel" in str(n.target)]
    for scales in {node.args[1] for node in pairs}:
        value = constant_of(scales, broken)
        assert value is not None
        with torch.no_grad():
            value.mul_(factor)
    return broken


def with_scaled_activations(program: fx.GraphModule, factor: float) -> fx.GraphModule:
    """The scale of every activation times `factor`."""
    broken = copy.deepcopy(program)
    for node in broken.graph.nodes:
        if "quantize_per_tensor" in str(node.target):
            value, scale, *rest = node.args
            node.args = (value, scale * factor, *rest)
    broken.recompile()
    return broken


def with_one_weight_off(program: fx.GraphModule) -> fx.GraphModule:
    """One weight of the last integer convolution three steps larger."""
    broken = copy.deepcopy(program)
    *_, pair = (n for n in broken.graph.nodes if "dequantize_per_channel" in str(n.target))
    scales = constant_of(pair.args[1], broken)
    folded = pair.args[0].op == "get_attr"
    weights = constant_of(pair.args[0] if folded else pair.args[0].args[0], broken)
    assert scales is not None
    assert weights is not None
    with torch.no_grad():
        smallest = weights.reshape(-1)[weights.abs().argmin()]
        smallest.add_(3 if folded else 3 * float(scales.max()))
    return broken


def with_biases_off(program: fx.GraphModule) -> fx.GraphModule:
    """The bias of every convolution plus a thousandth."""
    broken = copy.deepcopy(program)
    biases = {Conv(node).bias for node in broken.graph.nodes if is_conv(node)}
    for bias in biases - {None}:
        value = constant_of(bias, broken)
        assert value is not None
        with torch.no_grad():
            value.add_(1e-3)
    return broken


def with_convolution_float(program: fx.GraphModule, name: str) -> fx.GraphModule:
    """An integer convolution reads float weights, and its input without a pair."""
    broken = copy.deepcopy(program)
    conv = Conv(next(n for n in broken.graph.nodes if n.name == name))
    weight = conv.weight.args[0]
    with broken.graph.inserting_before(conv.node):
        if weight.op == "get_attr" and constant_of(weight, broken).dtype == torch.int8:
            codes, *stored_as = conv.weight.args
            scale, zero = (constant_of(part, broken) for part in stored_as[:2])
            real = torch.ops.quantized_decomposed.dequantize_per_channel.default(
                constant_of(codes, broken), scale, zero, *stored_as[2:]
            )
            weight = add_constant(broken, "left_float", real)
            weight.meta["val"] = conv.weight.meta["val"]
        else:
            weight = weight.args[0]
    conv.node.replace_input_with(conv.weight, weight)
    conv.node.replace_input_with(conv.input, conv.input.args[0].args[0])
    return _settled(broken)


def without_pair_behind(program: fx.GraphModule, name: str) -> fx.GraphModule:
    """The quantize and dequantize that read `name` are dropped, and their code forgotten."""
    broken = copy.deepcopy(program)
    value = next(n for n in broken.graph.nodes if n.name == name)
    (stored,) = value.users
    (real,) = stored.users
    real.replace_all_uses_with(value)
    return _settled(broken)


def _settled(program: fx.GraphModule) -> fx.GraphModule:
    program.graph.eliminate_dead_code()
    program.recompile()
    return program
