"""Evaluation batch norm folds into the convolution it touches.

    s = γ / √(σ² + ε),  t = β - μ s                                    s, t: C

    after:   s ⊙ (W * x + b) + t     =  (s ⊙ₒ W) * x + (s b + t)        W: Cout×Cin/g×k×k
    before:  W * (s ⊙ x + t) + b     =  (W ⊙ᵢ s) * x + (b + Σᵢₖ W t)    without padding only

In front of a padded convolution the padding is 0 while the batch norm of 0 is t, so the border
would change; it folds there only when t = 0.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pockethdr.export.aten import (
    Conv,
    arguments,
    aten,
    by_group,
    emit_conv_like,
    from_groups,
    is_call,
    is_conv,
    only_user,
)
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement

_PAIRED = (aten._native_batch_norm_legit_no_training.default,)
_SINGLE = (aten.batch_norm.default,)


@dataclass(frozen=True)
class _Norm:
    """A batch norm: its input, its result, and the affine map s x + t."""

    input: fx.Node
    result: fx.Node
    scale: Tensor
    shift: Tensor


class FoldBatchNorm:
    """Fold a batch norm into the convolution before it, else into the one behind it."""

    name = "batch_norm"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for result in _results(program):
            user = only_user(result)
            in_front = not _feeds_alone(_input_of(result)) and is_conv(user)
            yield user if user is not None and in_front else result

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        conv, norm = _conv_and_norm(node, program)
        if norm is None:
            return "the batch norm has computed statistics or is in training mode"
        if conv is None:
            return "no convolution of its own before or behind the batch norm"
        if constant_of(conv.weight, program) is None:
            return "the weight of the convolution is computed"
        if conv.bias is not None and constant_of(conv.bias, program) is None:
            return "the bias of the convolution is computed"
        if norm.result is not node and _sees_shift_in_padding(conv, norm):
            return "the convolution behind it pads with 0 where the batch norm gives its shift"
        if norm.result is not node and conv.transposed:
            return "a transposed convolution behind it sees borders without the shift"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        conv, norm = _conv_and_norm(node, program)
        assert conv is not None
        assert norm is not None
        fold = _folded_after if norm.result is node else _folded_before
        weight = constant_of(conv.weight, program)
        bias = None if conv.bias is None else constant_of(conv.bias, program)
        weight, bias = fold(conv, norm, weight, bias)
        source = conv.input if norm.result is node else norm.input
        new = emit_conv_like(program, conv, source, weight, bias, hint=node.name)
        return Replacement(new, f"batch norm of {len(norm.scale)} channels folded into weights")


def _results(program: fx.GraphModule) -> Iterable[fx.Node]:
    for node in program.graph.nodes:
        is_first = is_call(node, operator.getitem) and node.args[1] == 0
        if is_call(node, *_SINGLE) or (is_first and is_call(node.args[0], *_PAIRED)):
            yield node


def _norm_node(result: fx.Node) -> fx.Node | None:
    node = result.args[0] if is_call(result, operator.getitem) else result
    return node if isinstance(node, fx.Node) and is_call(node, *_PAIRED, *_SINGLE) else None


def _input_of(result: fx.Node) -> fx.Node:
    node = _norm_node(result)
    assert node is not None
    return arguments(node)["input"]


def _feeds_alone(node: fx.Node) -> bool:
    return is_conv(node) and len(node.users) == 1


def _conv_and_norm(node: fx.Node, program: fx.GraphModule) -> tuple[Conv | None, _Norm | None]:
    """The pair around a place: its batch norm's result, or the convolution behind one."""
    if is_conv(node):
        return Conv(node), _norm_of(Conv(node).input, program)
    norm = _norm_of(node, program)
    has_conv = norm is not None and _feeds_alone(norm.input)
    return (Conv(norm.input) if norm and has_conv else None), norm


def _norm_of(result: fx.Node, program: fx.GraphModule) -> _Norm | None:
    node = _norm_node(result)
    values = {} if node is None else arguments(node)
    if node is None or values.get("training", False):
        return None
    mean, var, gamma, beta = (
        constant_of(values[key], program)
        for key in ("running_mean", "running_var", "weight", "bias")
    )
    affine_is_computed = (gamma is None) != (values["weight"] is None) or (beta is None) != (
        values["bias"] is None
    )
    if mean is None or var is None or affine_is_computed:
        return None
    scale = (torch.ones_like(var) if gamma is None else gamma) / (var + values["eps"]).sqrt()
    shift = (0 if beta is None else beta) - mean * scale
    return _Norm(values["input"], result, scale.detach(), shift.detach())


def _sees_shift_in_padding(conv: Conv, norm: _Norm) -> bool:
    return conv.padding != (0, 0) and bool(norm.shift.any())


def _folded_after(
    conv: Conv, norm: _Norm, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    assert weight is not None
    scale = norm.scale.view(conv.groups, -1, 1, 1, 1)
    folded = from_groups(conv, by_group(conv, weight) * scale)
    return folded, norm.shift if bias is None else bias * norm.scale + norm.shift


def _folded_before(
    conv: Conv, norm: _Norm, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    assert weight is not None
    grouped = by_group(conv, weight)
    scale, shift = (v.view(conv.groups, 1, -1, 1, 1) for v in (norm.scale, norm.shift))
    constant = (grouped * shift).sum((2, 3, 4)).flatten()
    return from_groups(conv, grouped * scale), constant if bias is None else bias + constant
