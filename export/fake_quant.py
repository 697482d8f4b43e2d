"""A quantised program that can be trained: its pairs become fake quantisation with learned ranges.

The pairs are those of `quantized`, so what is rounded in training is what is rounded in the
artifact. Ranges are learned as in Esser et al., "Learned Step Size Quantization" (ICLR 2020), with
a zero-point: the gradient of both ends of a range passes through round() as if it were not there.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from pockethdr.export.program import constants_of_size
from pockethdr.export.qparams import QMAX, QMIN
from pockethdr.export.quantize import RANGE_OF
from pockethdr.export.weight_rounding import weight_scales

_OPS = torch.ops.quantized_decomposed


class LearnedRange(nn.Module):
    """x rounded to the 256 values of a range whose ends are parameters.

    Attributes:
        of: names of the values that share the range.
        ends: (low, high) over the width that the range started with.
    """

    def __init__(self, low: float, high: float, of: tuple[str, ...]) -> None:
        super().__init__()
        self.of = of
        self.width = high - low
        self.is_positive = low == 0.0
        self.ends = nn.Parameter(torch.tensor([low, high]) / self.width)

    def forward(self, x: Tensor) -> Tensor:
        scale, zero = self._params()
        return torch._fake_quantize_learnable_per_tensor_affine(
            x, scale.reshape(1), zero.reshape(1), QMIN, QMAX, 1.0
        )

    def range(self) -> tuple[float, float]:
        """The range as the artifact will have it: its ends are multiples of the scale."""
        with torch.no_grad():
            scale, zero = (float(value) for value in self._params())
        whole = max(QMIN, min(QMAX, round(zero)))
        return (QMIN - whole) * scale, (QMAX - whole) * scale

    def _params(self) -> tuple[Tensor, Tensor]:
        low, high = self.ends * self.width
        low = low * 0 if self.is_positive else low.clamp(max=0.0)
        scale = ((high.clamp(min=0.0) - low) / (QMAX - QMIN)).clamp(min=1e-8)
        return scale, QMIN - low / scale


class WeightRounding(nn.Module):
    """A convolution's weight rounded as `quantized` does it, one scale per output channel.

    Unlike there, no scale is raised to fit a bias (`scales_for_bias`): biases move in training.
    """

    def __init__(self, axis: int, method: str) -> None:
        super().__init__()
        self.axis, self.method = axis, method

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight_scales(weight, self.axis, method=self.method)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, self.axis, -127, 127)


def trainable(program: fx.GraphModule, *, weights: str) -> fx.GraphModule:
    """A copy of a program of `quantized` (weights not folded) whose constants are parameters.

    Args:
        weights: `Recipe.weights`, how a channel's range is chosen.
    """
    program = copy.deepcopy(program)
    learned = [n for n in program.graph.nodes if _has_range(n)]
    for of in _groups([node.meta[RANGE_OF] for node in learned]):
        _learn_range(program, [n for n in learned if n.meta[RANGE_OF] <= of], of)
    for node in list(program.graph.nodes):
        if node.target is _OPS.dequantize_per_channel.default:
            _round_weight(program, node, weights)
    program.graph.eliminate_dead_code()
    program.delete_all_unused_submodules()
    _constants_to_parameters(program)
    program.recompile()
    return program


def learned_ranges(program: fx.GraphModule) -> dict[str, tuple[float, float]]:
    """Name of a value → its range, for every range of a `trainable` program."""
    modules = [m for m in program.modules() if isinstance(m, LearnedRange)]
    return {name: module.range() for module in modules for name in module.of}


def learned_constants(program: fx.GraphModule) -> dict[str, Tensor]:
    """Name of a constant → its value now, for every constant that a `trainable` program learns."""
    ranges = [name for name, m in program.named_modules() if isinstance(m, LearnedRange)]
    ends = {f"{name}.ends" for name in ranges}
    return {name: value for name, value in program.named_parameters() if name not in ends}


def _has_range(node: fx.Node) -> bool:
    return node.target is _OPS.dequantize_per_tensor.default and bool(node.meta.get(RANGE_OF))


def _groups(sets: list[frozenset[str]]) -> list[frozenset[str]]:
    """Unions of all sets that overlap: what has one range now keeps one."""
    groups: list[frozenset[str]] = []
    for names in sets:
        touched = [group for group in groups if group & names]
        groups = [group for group in groups if not group & names]
        groups.append(names.union(*touched))
    return groups


def _learn_range(program: fx.GraphModule, nodes: list[fx.Node], of: frozenset[str]) -> None:
    scale, zero = nodes[0].args[1:3]
    assert isinstance(scale, float)
    assert isinstance(zero, int)
    low, high = (QMIN - zero) * scale, (QMAX - zero) * scale
    name = f"range_of_{min(of)}"
    program.add_submodule(name, LearnedRange(low, high, tuple(sorted(of))))
    for node in nodes:
        with program.graph.inserting_before(node):
            learned = program.graph.call_module(name, (_unrounded(node),))
        node.replace_all_uses_with(learned)


def _round_weight(program: fx.GraphModule, node: fx.Node, method: str) -> None:
    axis = node.args[3]
    assert isinstance(axis, int)
    name = f"round_{node.name}"
    program.add_submodule(name, WeightRounding(axis, method))
    with program.graph.inserting_before(node):
        rounded = program.graph.call_module(name, (_unrounded(node),))
    node.replace_all_uses_with(rounded)


def _unrounded(dequantize: fx.Node) -> fx.Node:
    """What went into the quantize in front of it."""
    (quantize, *_) = dequantize.args
    assert isinstance(quantize, fx.Node)
    (value, *_) = quantize.args
    assert isinstance(value, fx.Node)
    return value


def _constants_to_parameters(program: fx.GraphModule) -> None:
    read = {str(node.target) for node in program.graph.nodes if node.op == "get_attr"}
    read -= constants_of_size(program)
    for name, value in list(program.named_buffers()):
        if name in read and value.is_floating_point():
            owner, _, last = name.rpartition(".")
            module = program.get_submodule(owner)
            del module._buffers[last]
            module.register_parameter(last, nn.Parameter(value.clone()))
    program.requires_grad_(True)
