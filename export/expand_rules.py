"""How each (multi)linear ATen operator acts on values in normal form; one small rule for each.

A rule gets the expansion, which gives the values of operands, and the arguments by name. It raises
`NotAligned` for what normal form cannot say: the node is then taken as it stands.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from pockethdr.export import algebra
from pockethdr.export.algebra import NotAligned, Value, Window
from pockethdr.export.aten import ELEMENTWISE, aten, pair, shape
from pockethdr.export.expand_layout import REARRANGED, Rule

if TYPE_CHECKING:
    from pockethdr.export.expand import Expansion


def _add(ex: Expansion, a: dict[str, Any]) -> Value:
    return algebra.add(ex.operand(a["self"]), ex.operand(a["other"]), scale=float(a["alpha"]))


def _sub(ex: Expansion, a: dict[str, Any]) -> Value:
    return algebra.add(ex.operand(a["self"]), ex.operand(a["other"]), scale=-float(a["alpha"]))


def _rsub(ex: Expansion, a: dict[str, Any]) -> Value:
    return algebra.add(ex.operand(a["other"]), ex.operand(a["self"]), scale=-float(a["alpha"]))


def _neg(ex: Expansion, a: dict[str, Any]) -> Value:
    return algebra.scaled(ex.operand(a["self"]), -1.0)


def _mul(ex: Expansion, a: dict[str, Any]) -> Value:
    return algebra.multiply(ex.operand(a["self"]), ex.operand(a["other"]))


def _div(ex: Expansion, a: dict[str, Any]) -> Value:
    other = a["other"]
    divisor = ex.constants.value(other) if isinstance(other, fx.Node) else torch.as_tensor(other)
    if divisor is None:
        raise NotAligned("division by a run-time value")
    return algebra.multiply(ex.operand(a["self"]), algebra.constant(1 / divisor.double()))


def _pow(ex: Expansion, a: dict[str, Any]) -> Value:
    if a["exponent"] != 2:
        raise NotAligned("a power other than 2")
    return _square(ex, a)


def _square(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    return algebra.multiply(value, value)


def _sum(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dims = _dims(a.get("dim"), value)
    _forbid_spatial_sum(value, dims)
    return algebra.total(value, dims, keepdim=a.get("keepdim", False))


def _mean(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    count = math.prod([value.shape[d] for d in _dims(a.get("dim"), value)])
    return algebra.scaled(_sum(ex, a), 1 / count)


def _outer(ex: Expansion, a: dict[str, Any]) -> Value:
    return algebra.einsum([ex.operand(a["self"]), ex.operand(a["vec2"])], ["i", "j"], "ij")


def _tensordot(ex: Expansion, a: dict[str, Any]) -> Value:
    left, right = ex.operand(a["self"]), ex.operand(a["other"])
    names = string.ascii_letters[: len(left.axes)]
    others = list(string.ascii_letters[len(left.axes) :][: len(right.axes)])
    _forbid_spatial_sum(left, a["dims_self"])
    for i, j in zip(a["dims_self"], a["dims_other"], strict=True):
        others[j] = names[i]
    output = [c for c in (*names, *others) if (c in names) != (c in others)]
    return algebra.einsum([left, right], [names, "".join(others)], "".join(output))


def _matmul(ex: Expansion, a: dict[str, Any]) -> Value:
    left, right = ex.operand(a["self"]), ex.operand(a.get("other", a.get("mat2")))
    return _matrix_product(left, right)


def _matrix_product(left: Value, right: Value) -> Value:
    batch = "abcdefgh"[: max(len(left.axes), len(right.axes)) - 2]
    if min(len(left.axes), len(right.axes)) < 2:
        raise NotAligned("a matrix-vector product")
    names = (
        batch[len(batch) + 2 - len(left.axes) :] + "ij",
        batch[len(batch) + 2 - len(right.axes) :] + "jk",
    )
    product = algebra.einsum([left, right], names, batch + "ik")
    _forbid_spatial_sum(left, [-1])
    return product


def _linear(ex: Expansion, a: dict[str, Any]) -> Value:
    value, weight = ex.operand(a["input"]), ex.operand(a["weight"])
    names = "abcdefgh"[: len(value.axes) - 1]
    result = algebra.einsum([value, weight], [names + "i", "oi"], names + "o")
    return algebra.add(result, ex.operand(a["bias"])) if a["bias"] is not None else result


def _addmm(ex: Expansion, a: dict[str, Any]) -> Value:
    left, right = (a["mat1"], a["mat2"]) if "mat1" in a else (a["batch1"], a["batch2"])
    product = _matrix_product(ex.operand(left), ex.operand(right))
    product = algebra.scaled(product, float(a["alpha"]))
    return algebra.add(product, ex.operand(a["self"]), scale=float(a["beta"]))


def _einsum(ex: Expansion, a: dict[str, Any]) -> Value:
    operands = [ex.operand(v) for v in a["tensors"]]
    inputs, output = spelled_out(a["equation"], [len(value.axes) for value in operands])
    return algebra.einsum(operands, inputs, output)


def spelled_out(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Operands and output of an einsum, its ellipses as letters and its output explicit."""
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        output = "..." * ("..." in left)
        output += "".join(sorted(c for c in letters if letters.count(c) == 1))
    free = "".join(c for c in string.ascii_letters if c not in equation)
    widths = [rank - len(x.replace("...", "")) for x, rank in zip(inputs, ranks, strict=True)]
    wide = free[: max((n for n, x in zip(widths, inputs, strict=True) if "..." in x), default=0)]
    filled = [x.replace("...", wide[len(wide) - n :]) for n, x in zip(widths, inputs, strict=True)]
    return filled, output.replace("...", wide)


def _unfold(ex: Expansion, a: dict[str, Any]) -> Value:
    source = a["self"]
    if len(shape(source)) != 4:
        raise NotAligned("unfolds an image without a batch")
    window = Window(*(pair(a[k]) for k in ("kernel_size", "stride", "padding", "dilation")))
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(shape(source)[2:], *astuple(window), strict=True)
    ]
    value = algebra.windows(source, window, out)
    n, c, kh, kw, h, w = value.shape
    return algebra.reshape(value, [n, c * kh * kw, h * w])


def _forbid_spatial_sum(value: Value, dims: Sequence[int]) -> None:
    """A sum over pixels is a pooling or an attention, not a kernel: keep it whole."""
    summed = {label for dim in dims for label in value.axes[dim]}
    if any(summed & leaf.spatial for term in value.terms for leaf in term.leaves):
        raise NotAligned("a sum over pixels")


def _dims(dim: Any, value: Value) -> list[int]:
    if dim is None:
        return list(range(len(value.axes)))
    return [d % len(value.axes) for d in ([dim] if isinstance(dim, int) else dim)]


#: Operator → rule.
RULES: dict[Any, Rule] = REARRANGED | {
    aten.add.Tensor: _add,
    aten.sub.Tensor: _sub,
    aten.rsub.Scalar: _rsub,
    aten.rsub.Tensor: _rsub,
    aten.neg.default: _neg,
    aten.mul.Tensor: _mul,
    aten.div.Tensor: _div,
    aten.pow.Tensor_Scalar: _pow,
    aten.square.default: _square,
    aten.sum.dim_IntList: _sum,
    aten.sum.default: _sum,
    aten.mean.dim: _mean,
    aten.mean.default: _mean,
    aten.outer.default: _outer,
    aten.tensordot.default: _tensordot,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.linear.default: _linear,
    aten.addmm.default: _addmm,
    aten.baddbmm.default: _addmm,
    aten.einsum.default: _einsum,
    aten.im2col.default: _unfold,
}

#: Operators that no rule could say: what acts on each value alone, and what normalises.
NONLINEAR = ELEMENTWISE - RULES.keys() | {
    aten.softmax.int,
    aten._softmax.default,
    aten.rsqrt.default,
}
