"""Evaluation batch norm folds into the convolution it touches, or becomes one.

    s = γ / √(σ² + ε),  t = β - μ s                                    s, t: C

    after:   s ⊙ (W * x + b) + t     =  (s ⊙ₒ W) * x + (s b + t)        W: Cout×Cin/g×k×k
    before:  W * (s ⊙ x + t) + b     =  (W ⊙ᵢ s) * x + (b + Σᵢₖ W t)    without padding only
    alone:   s ⊙ x + t               =  diag(s) * x + t                 1×1, depthwise

In front of a padded convolution the padding is 0 while the batch norm of 0 is t, so the border
would change; it folds there only when t = 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pockethdr.export.aten import (
    Conv,
    arguments,
    batch_norm_of,
    by_group,
    emit_conv,
    emit_conv_like,
    from_groups,
    is_conv,
    only_user,
    shape,
)
from pockethdr.export.program import constant_of
from pockethdr.export.rewrite import Replacement


@dataclass(frozen=True)
class _Norm:
    """A batch norm: its input, its result, and the affine map s x + t."""

    input: fx.Node
    result: fx.Node
    scale: Tensor
    shift: Tensor


class FoldBatchNorm:
    """Fold a batch norm into the convolution before it, else into the one behind it, else alone."""

    name = "batch_norm"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        for node in program.graph.nodes:
            if batch_norm_of(node) is not None:
                yield _behind(node, program) or node

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        conv, norm = _conv_and_norm(node, program)
        if norm is None:
            return "the batch norm has computed statistics or is in training mode"
        if conv is None and len(shape(node)) != 4:
            return "no feature map, and no convolution of its own before or behind the batch norm"
        return None

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        conv, norm = _conv_and_norm(node, program)
        assert norm is not None
        channels = len(norm.scale)
        if conv is None:
            scales = norm.scale.view(-1, 1, 1, 1)
            new = emit_conv(
                program, norm.input, scales, norm.shift, groups=channels, hint=node.name
            )
            return Replacement(new, f"batch norm of {channels} channels as a depthwise convolution")
        fold = _folded_after if norm.result is node else _folded_before
        weight = constant_of(conv.weight, program)
        bias = None if conv.bias is None else constant_of(conv.bias, program)
        assert weight is not None
        folded = fold(conv, norm, weight, bias)
        source = conv.input if norm.result is node else norm.input
        new = emit_conv_like(program, conv, source, *folded, hint=node.name)
        return Replacement(new, f"batch norm of {channels} channels folded into weights")


def _feeds_alone(node: fx.Node) -> bool:
    return is_conv(node) and len(node.users) == 1


def _conv_and_norm(node: fx.Node, program: fx.GraphModule) -> tuple[Conv | None, _Norm | None]:
    """The pair around a place: its batch norm's result, or the convolution behind one."""
    if is_conv(node):
        return Conv(node), _norm_of(Conv(node).input, program)
    norm = _norm_of(node, program)
    has_conv = norm and _feeds_alone(norm.input) and _is_constant(Conv(norm.input), program)
    return (Conv(norm.input) if norm and has_conv else None), norm


def _behind(result: fx.Node, program: fx.GraphModule) -> fx.Node | None:
    """The convolution behind a batch norm, when it can take it in and none before it does."""
    user, norm = only_user(result), _norm_of(result, program)
    if user is None or norm is None or not is_conv(user) or _feeds_alone(norm.input):
        return None
    return user if _takes_in(Conv(user), norm, program) else None


def _takes_in(conv: Conv, norm: _Norm, program: fx.GraphModule) -> bool:
    """Whether a convolution behind a batch norm can do its work: borders must not see the shift."""
    sees_border = conv.transposed or (conv.padding != (0, 0) and bool(norm.shift.any()))
    return conv.input is norm.result and _is_constant(conv, program) and not sees_border


def _is_constant(conv: Conv, program: fx.GraphModule) -> bool:
    values = [node for node in (conv.weight, conv.bias) if node is not None]
    return all(constant_of(node, program) is not None for node in values)


def _norm_of(result: fx.Node, program: fx.GraphModule) -> _Norm | None:
    node = batch_norm_of(result)
    if node is None:
        return None
    values = arguments(node)
    if values.get("training", False):
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


def _folded_after(
    conv: Conv, norm: _Norm, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    scale = norm.scale.view(conv.groups, -1, 1, 1, 1)
    folded = from_groups(conv, by_group(conv, weight) * scale)
    return folded, norm.shift if bias is None else bias * norm.scale + norm.shift


def _folded_before(
    conv: Conv, norm: _Norm, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    grouped = by_group(conv, weight)
    scale, shift = (v.view(conv.groups, 1, -1, 1, 1) for v in (norm.scale, norm.shift))
    constant = (grouped * shift).sum((2, 3, 4)).flatten()
    return from_groups(conv, grouped * scale), constant if bias is None else bias + constant
