"""From graph nodes to normal form: which ATen operators are (multi)linear, and how each acts.

A node is *opened* when its value is written through its operands, and a *leaf* when it is taken as
it stands. Views are always opened; an activation, a pooling or a convolution never is; the search
in `lowrank` chooses for the rest.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from pockethdr.export import algebra
from pockethdr.export.algebra import Axis, NotAligned, Value, Window
from pockethdr.export.aten import Conv, arguments, aten, pair, shape
from pockethdr.export.rewrite import constant_of

#: A selection over a longer axis is a feature map being cut, not a kernel being assembled.
MAX_SELECTED = 4096


class Expansion:
    """The normal forms of the nodes of one program.

    Args:
        constants: the program's constants, in float64 so that they are composed exactly.
        opened: nodes to write through their operands.
    """

    def __init__(self, constants: Constants, opened: frozenset[fx.Node]) -> None:
        self.constants, self.opened = constants, opened
        self.visited = dict[fx.Node, Value]()
        self.closed = dict[fx.Node, None]()  # leaves that could have been opened

    def of(self, node: fx.Node) -> Value:
        """The normal form of `node`."""
        if node not in self.visited:
            self.visited[node] = self._expanded(node)
        return self.visited[node]

    def _expanded(self, node: fx.Node) -> Value:
        known = self.constants.value(node)
        if known is not None and node.target not in _BROADCASTS:
            return algebra.constant(known)
        rule = RULES.get(node.target) if node.op == "call_function" else None
        if rule is None:
            return algebra.leaf(node)
        if node.target is operator.getitem:
            return self._piece(node)
        if node.target not in _VIEWS and node not in self.opened:
            self.closed[node] = None
            return algebra.leaf(node)
        try:
            return rule(self, arguments(node))
        except NotAligned:
            return algebra.leaf(node)

    def _piece(self, node: fx.Node) -> Value:
        """One output of a split or unbind."""
        source, index = node.args
        assert isinstance(source, fx.Node)
        assert isinstance(index, int)
        if source.target not in (*_SPLITS, aten.unbind.int):
            return algebra.leaf(node)
        a = arguments(source)
        value = self.operand(a["self"])
        dim = a["dim"] % len(value.axes)
        start = sum(other.shape[dim] for other in source.meta["val"][:index])
        try:
            if source.target is aten.unbind.int:
                return _dropped(_take(value, dim, [index]), dim)
            return _take(value, dim, range(start, start + shape(node)[dim]))
        except NotAligned:
            return algebra.leaf(node)

    def operand(self, value: Any) -> Value:
        """A node, a Python number or a tensor as a value."""
        if isinstance(value, fx.Node):
            return self.of(value)
        return algebra.constant(torch.as_tensor(value, dtype=torch.float64))


class Constants:
    """Evaluates the nodes that depend on no input, once each."""

    def __init__(self, program: fx.GraphModule) -> None:
        self.program = program
        self.known = dict[fx.Node, Tensor | None]()

    def value(self, node: fx.Node) -> Tensor | None:
        """The tensor that `node` always has, or None when it depends on an input."""
        if node not in self.known:
            self.known[node] = self._evaluated(node)
        return self.known[node]

    def _evaluated(self, node: fx.Node) -> Tensor | None:
        if node.op == "get_attr":
            return constant_of(node, self.program)
        if node.op != "call_function":
            return None
        if any(self.value(source) is None for source in node.all_input_nodes):
            return None
        args = fx.map_arg(node.args, lambda source: self.known[source])
        kwargs = fx.map_arg(node.kwargs, lambda source: self.known[source])
        with torch.no_grad():
            result = node.target(*args, **kwargs)  # type: ignore[operator]
        return result if isinstance(result, Tensor) else None


Rule = Callable[[Expansion, dict[str, Any]], Value]


# ---- the rules -----------------------------------------------------------------------------------


def _same(ex: Expansion, a: dict[str, Any]) -> Value:
    return ex.operand(a["self"])


def _reshape(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    size = [int(n) for n in (a["size"] if "size" in a else a["shape"])]
    if -1 in size:
        size[size.index(-1)] = algebra.size_of(value.labels) // -math.prod(size)
    return algebra.reshape(value, size)


def _flatten(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    rank = len(value.axes)
    first, last = a["start_dim"] % rank, a["end_dim"] % rank
    merged = math.prod(value.shape[first : last + 1])
    return algebra.reshape(value, [*value.shape[:first], merged, *value.shape[last + 1 :]])


def _unflatten(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dim, sizes = a["dim"] % len(value.axes), list(a["sizes"])
    if -1 in sizes:
        sizes[sizes.index(-1)] = value.shape[dim] // -math.prod(sizes)
    return algebra.reshape(value, [*value.shape[:dim], *sizes, *value.shape[dim + 1 :]])


def _permute(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    return algebra.permute(value, [d % len(value.axes) for d in a["dims"]])


def _transpose(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    rank = len(value.axes)
    order = list(range(rank))
    i, j = (a.get("dim0", 0) % rank, a.get("dim1", 1) % rank) if rank > 1 else (0, 0)
    order[i], order[j] = order[j], order[i]
    return algebra.permute(value, order)


def _unsqueeze(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dim = a["dim"] % (len(value.axes) + 1)
    return Value((*value.axes[:dim], (), *value.axes[dim:]), value.terms)


def _squeeze(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dims = a.get("dim", list(range(len(value.axes))))
    dims = {d % len(value.axes) for d in ([dims] if isinstance(dims, int) else dims)}
    kept = tuple(x for i, x in enumerate(value.axes) if not (i in dims and x == ()))
    return Value(kept, value.terms)


def _expand(ex: Expansion, a: dict[str, Any]) -> Value:
    value, size = ex.operand(a["self"]), a["size"]
    axes: tuple[Axis, ...] = ((),) * (len(size) - len(value.axes)) + value.axes
    wide = (
        x if n in (-1, algebra.size_of(x)) else algebra.axis_of(n)
        for x, n in zip(axes, size, strict=True)
    )
    return Value(tuple(wide), value.terms)


def _repeat(ex: Expansion, a: dict[str, Any]) -> Value:
    value, repeats = ex.operand(a["self"]), a["repeats"]
    axes: tuple[Axis, ...] = ((),) * (len(repeats) - len(value.axes)) + value.axes
    return Value(
        tuple(algebra.axis_of(n) + x for x, n in zip(axes, repeats, strict=True)), value.terms
    )


def _repeat_interleave(ex: Expansion, a: dict[str, Any]) -> Value:
    value, dim = ex.operand(a["self"]), a["dim"]
    if dim is None or not isinstance(a["repeats"], int):
        raise NotAligned("repeat_interleave with a tensor of repeats")
    axes = list(value.axes)
    axes[dim] = axes[dim] + algebra.axis_of(a["repeats"])
    return Value(tuple(axes), value.terms)


def _slice(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dim = a["dim"] % len(value.axes)
    chosen = range(value.shape[dim])[slice(a["start"], a["end"], a["step"])]
    if len(chosen) == value.shape[dim]:
        return value
    return _take(value, dim, chosen)


def _select(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dim = a["dim"] % len(value.axes)
    return _dropped(_take(value, dim, [a["index"] % value.shape[dim]]), dim)


def _flip(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    for dim in a["dims"]:
        value = _take(value, dim % len(value.axes), range(value.shape[dim])[::-1])
    return value


def _pad(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    if a.get("mode", "constant") != "constant" or a.get("value") not in (None, 0):
        raise NotAligned("padding with other than zeros")
    pads = list(a["pad"])
    for i in range(0, len(pads), 2):
        dim = len(value.axes) - 1 - i // 2
        value = _placed(value, dim, pads[i], value.shape[dim] + pads[i] + pads[i + 1])
    return value


def _cat(ex: Expansion, a: dict[str, Any]) -> Value:
    values = [ex.operand(source) for source in a["tensors"]]
    dim = a["dim"] % len(values[0].axes)
    length, start, result = sum(v.shape[dim] for v in values), 0, None
    for value in values:
        part = _placed(value, dim, start, length)
        result = part if result is None else algebra.add(result, part)
        start += value.shape[dim]
    assert result is not None
    return result


def _stack(ex: Expansion, a: dict[str, Any]) -> Value:
    values = [ex.operand(source) for source in a["tensors"]]
    dim = a["dim"] % (len(values[0].axes) + 1)
    result = None
    for i, value in enumerate(values):
        wide = Value((*value.axes[:dim], (), *value.axes[dim:]), value.terms)
        part = _placed(wide, dim, i, len(values))
        result = part if result is None else algebra.add(result, part)
    assert result is not None
    return result


def _block_diagonal(ex: Expansion, a: dict[str, Any]) -> Value:
    blocks = [ex.operand(source) for source in a["tensors"]]
    if any(len(block.axes) != 2 for block in blocks):
        raise NotAligned("block_diag of other than matrices")
    height, width = (sum(block.shape[d] for block in blocks) for d in (0, 1))
    top, left, result = 0, 0, None
    for block in blocks:
        part = _placed(_placed(block, 0, top, height), 1, left, width)
        result = part if result is None else algebra.add(result, part)
        top, left = top + block.shape[0], left + block.shape[1]
    assert result is not None
    return result


def _diagonal_matrix(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    if (a["offset"], a["dim1"], a["dim2"]) != (0, -2, -1):
        raise NotAligned("diag_embed off the last two dimensions")
    eye = algebra.constant(torch.eye(value.shape[-1], dtype=torch.float64))
    return algebra.multiply(Value((*value.axes, ()), value.terms), eye)


def _add(ex: Expansion, a: dict[str, Any]) -> Value:
    return algebra.add(ex.operand(a["self"]), ex.operand(a["other"]), scale=float(a["alpha"]))


def _sub(ex: Expansion, a: dict[str, Any]) -> Value:
    return algebra.add(ex.operand(a["self"]), ex.operand(a["other"]), scale=-float(a["alpha"]))


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
    value = ex.operand(a["self"])
    return algebra.multiply(value, value)


def _sum(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    dims = _dims(a.get("dim"), value)
    _forbid_spatial(value, dims)
    return algebra.total(value, dims, keepdim=a.get("keepdim", False))


def _mean(ex: Expansion, a: dict[str, Any]) -> Value:
    value = ex.operand(a["self"])
    count = math.prod([value.shape[d] for d in _dims(a.get("dim"), value)])
    return algebra.scaled(_sum(ex, a), 1 / count)


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
    _forbid_spatial_sum(left, -1)
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
    equation = a["equation"].replace(" ", "")
    if "." in equation or "->" not in equation:
        raise NotAligned("einsum with an ellipsis or an implicit output")
    inputs, output = equation.split("->")
    return algebra.einsum([ex.operand(v) for v in a["tensors"]], inputs.split(","), output)


def _unfold(ex: Expansion, a: dict[str, Any]) -> Value:
    source = a["self"]
    window = Window(*(pair(a[k]) for k in ("kernel_size", "stride", "padding", "dilation")))
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(shape(source)[2:], *_window(window), strict=True)
    ]
    value = algebra.patches(source, window, out)
    n, c, kh, kw, h, w = value.shape
    return algebra.reshape(value, [n, c * kh * kw, h * w])


# ---- helpers -------------------------------------------------------------------------------------


def window_of(conv: Conv) -> Window:
    return Window(conv.kernel, conv.stride, conv.padding, conv.dilation)


def _window(window: Window) -> tuple[tuple[int, int], ...]:
    return window.kernel, window.stride, window.padding, window.dilation


def _take(value: Value, dim: int, chosen: Sequence[int]) -> Value:
    length = value.shape[dim]
    if length > MAX_SELECTED:
        raise NotAligned("a long axis is cut")
    return algebra.selected(value, dim, torch.eye(length, dtype=torch.float64)[list(chosen)])


def _dropped(value: Value, dim: int) -> Value:
    return Value(tuple(axis for i, axis in enumerate(value.axes) if i != dim), value.terms)


def _placed(value: Value, dim: int, start: int, length: int) -> Value:
    """`value` at `start` of an axis of `length`, zeros around it."""
    if length > MAX_SELECTED:
        raise NotAligned("a long axis is assembled")
    size = value.shape[dim]
    matrix = torch.zeros(length, size, dtype=torch.float64)
    matrix[start : start + size] = torch.eye(size, dtype=torch.float64)
    return algebra.selected(value, dim, matrix)


def _forbid_spatial(value: Value, dims: Sequence[int]) -> None:
    for dim in dims:
        _forbid_spatial_sum(value, dim)


def _forbid_spatial_sum(value: Value, dim: int) -> None:
    """A sum over pixels is a pooling or an attention, not a kernel: keep it whole."""
    summed = set(value.axes[dim])
    if any(summed & leaf.spatial for term in value.terms for leaf in term.leaves):
        raise NotAligned("a sum over pixels")


def _dims(dim: Any, value: Value) -> list[int]:
    if dim is None:
        return list(range(len(value.axes)))
    return [d % len(value.axes) for d in ([dim] if isinstance(dim, int) else dim)]


_SPLITS = (aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)

_VIEWS: dict[Any, Rule] = {
    aten.view.default: _reshape,
    aten.reshape.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten.flatten.using_ints: _flatten,
    aten.unflatten.int: _unflatten,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.t.default: _transpose,
    aten.numpy_T.default: lambda ex, a: algebra.permute(
        ex.operand(a["self"]), range(len(ex.operand(a["self"]).axes))[::-1]
    ),
    aten.unsqueeze.default: _unsqueeze,
    aten.squeeze.default: _squeeze,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
    aten.expand.default: _expand,
    aten.clone.default: _same,
    aten.contiguous.default: _same,
    aten.alias.default: _same,
    aten.detach.default: _same,
    aten.dropout.default: lambda ex, a: ex.operand(a["input"]),
}

#: Opened even on constants: a label that is only repeated must not look like one that varies.
_BROADCASTS = (aten.expand.default, aten.repeat.default)

RULES: dict[Any, Rule] = _VIEWS | {
    operator.getitem: _same,  # handled by `Expansion`, which must see the node
    aten.repeat.default: _repeat,
    aten.repeat_interleave.self_int: _repeat_interleave,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.flip.default: _flip,
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.block_diag.default: _block_diagonal,
    aten.diag_embed.default: _diagonal_matrix,
    aten.add.Tensor: _add,
    aten.sub.Tensor: _sub,
    aten.neg.default: _neg,
    aten.mul.Tensor: _mul,
    aten.div.Tensor: _div,
    aten.pow.Tensor_Scalar: _pow,
    aten.square.default: lambda ex, a: algebra.multiply(
        ex.operand(a["self"]), ex.operand(a["self"])
    ),
    aten.sum.dim_IntList: _sum,
    aten.mean.dim: _mean,
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten.bmm.default: _matmul,
    aten.linear.default: _linear,
    aten.addmm.default: _addmm,
    aten.baddbmm.default: _addmm,
    aten.einsum.default: _einsum,
    aten.im2col.default: _unfold,
}
