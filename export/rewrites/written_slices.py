"""What is written into parts of a tensor is concatenated instead: phones scatter slowly, or not.

x[:, a:b] = y      slice_scatter(x, y, a, b)  =  concat(x[:, :a], y, x[:, b:])
x[:, i] = y        select_scatter(x, y, i)    =  concat(x[:, :i], y as one slice, x[:, i+1:])

A chain of writes along one axis becomes one concatenation, without what is written over later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import fx

from pockethdr.export.aten import arguments, aten, calls, emit, is_call, only_user, shape
from pockethdr.export.rewrite import Replacement

_WRITES = (aten.slice_scatter.default, aten.select_scatter.default)


class _Piece(NamedTuple):
    """The places [start, stop) of the result: those of `source` from `offset` on."""

    start: int
    stop: int
    source: fx.Node
    offset: int


class ConcatWrittenSlices:
    """Concatenate what a chain of writes into slices leaves of each."""

    name = "written_slices"

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        yield from (node for node in calls(program, *_WRITES) if not _is_written_on(node))

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        return _obstacle(node)

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        dim = _axis(node)
        parts = [_cut(program, piece, dim) for piece in _pieces(program, node, dim)]
        joined = emit(program, aten.cat.default, parts, dim) if len(parts) > 1 else parts[0]
        return Replacement(joined, f"{len(parts)} parts along axis {dim}")


def _is_written_on(node: fx.Node) -> bool:
    """Whether nothing but a further write along the same axis reads `node`."""
    user = only_user(node)
    if user is None or not _is_write_along(user, _axis(node)):
        return False
    return _target(user) is node and arguments(user)["src"] is not node


def _pieces(program: fx.GraphModule, node: fx.Node, dim: int) -> list[_Piece]:
    """What the values of `node` are made of along `dim`, from the first place to the last."""
    if not _is_write_along(node, dim):
        return [_Piece(0, shape(node)[dim], node, 0)]
    start, stop, source = _written(program, node)
    below = _pieces(program, _target(node), dim)
    before = _clipped(below, 0, start)
    after = _clipped(below, stop, shape(node)[dim])
    return [*before, _Piece(start, stop, source, 0), *after]


def _is_write_along(node: fx.Node, dim: int) -> bool:
    return is_call(node, *_WRITES) and _obstacle(node) is None and _axis(node) == dim


def _obstacle(node: fx.Node) -> str | None:
    """Why what this writes is no part of a concatenation."""
    if arguments(node).get("step", 1) != 1:
        return "it writes every so many places, not a slice"
    target, source = _target(node).meta["val"], arguments(node)["src"].meta["val"]
    return None if target.dtype == source.dtype else "it converts what it writes"


def _written(program: fx.GraphModule, node: fx.Node) -> tuple[int, int, fx.Node]:
    """The places that `node` writes, and what it writes there."""
    a, dim = arguments(node), _axis(node)
    size, source = shape(node)[dim], a["src"]
    if is_call(node, aten.select_scatter.default):
        index = a["index"] % size
        return index, index + 1, emit(program, aten.unsqueeze.default, source, dim)
    start, stop, _ = slice(a["start"], a["end"]).indices(size)
    return start, max(start, stop), source


def _clipped(pieces: list[_Piece], start: int, stop: int) -> Iterator[_Piece]:
    for piece in pieces:
        first, last = max(start, piece.start), min(stop, piece.stop)
        if first < last:
            yield _Piece(first, last, piece.source, piece.offset + first - piece.start)


def _cut(program: fx.GraphModule, piece: _Piece, dim: int) -> fx.Node:
    length = piece.stop - piece.start
    if length == shape(piece.source)[dim]:
        return piece.source
    end = piece.offset + length
    return emit(program, aten.slice.Tensor, piece.source, dim, piece.offset, end)


def _target(node: fx.Node) -> fx.Node:
    target = arguments(node)["self"]
    assert isinstance(target, fx.Node)
    return target


def _axis(node: fx.Node) -> int:
    return int(arguments(node)["dim"]) % len(shape(node))
