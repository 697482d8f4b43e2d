"""Networks that look at the whole image, cut in two: what is computed once a shot, and the tiles.

A kernel that depends on the mean of the image changes with every tile. Such values betray
themselves: trace the network at two frame sizes, and every value of the frames whose shape did not
grow describes the whole image. Where the rest of the graph reads them it is cut:

    c = Context(thumbnails of the frames)      once a shot
    HDR of a tile = Tile(frames of the tile, c)

That Tile(x, Context(x)) is the network is proved in float64 on the very program that is exported:
names of nodes are no promise, since a network may have others at another size. What is left of it
must be wired as what was measured to see no further than a halo. A coarse map that is enlarged to
the frame (nearest neighbour) is cut behind the enlarging, since a tile must see its own part: the
runtime enlarges and cuts it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from pockethdr.errors import PocketError
from pockethdr.export.aten import aten
from pockethdr.export.manifest import ContextRecord
from pockethdr.export.program import (
    drop_unused_constants,
    kind_of,
    op_name,
    refresh_meta,
    shape_of,
    source_of,
)
from pockethdr.export.rewrite import Proof, prove_output
from pockethdr.export.static import static_program
from pockethdr.export.targets import CONTEXT_NAME
from pockethdr.models.load import Loaded, example_frames
from pockethdr.models.precision import InFloat64
from pockethdr.models.receptive import (
    BEYOND,
    BLOCK,
    Sight,
    Window,
    grown,
    holds,
    radius_of,
    seen_by,
    start_of_block,
    steps_of,
)

_ENLARGING = "aten.upsample_nearest2d"
_EXTREMES = frozenset(
    f"aten.{name}"
    for name in (
        *("amax", "amin", "max", "min", "argmax", "argmin", "topk", "kthvalue", "quantile"),
        *("max_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d"),
    )
)
_SPREADS = frozenset(f"aten.{name}" for name in ("var", "std", "var_mean", "std_mean"))
_MEANS = frozenset(f"aten.{name}" for name in ("mean", "sum", "avg_pool2d"))
# The network is traced at these sizes to find the cut; the larger one has to hold its halo. What
# divides one divides the other: what pools to a grid is written alike at both.
_SMALL, _LARGE = 256, 512


class ContextError(PocketError):
    """A network looks at the whole image in a way that cannot be cut out."""


@dataclass(frozen=True)
class Cut:
    """Where a network is cut.

    Attributes:
        record: where, and what the runtime has to know.
        sight: of what is left.
        proof: that both parts together are the program that is exported.
    """

    record: ContextRecord
    sight: Sight
    proof: Proof


def find_cut(loaded: Loaded, program: fx.GraphModule, multiple: int) -> Cut | None:
    """Where to cut a network; None when no value describes the whole image.

    Args:
        program: its static program at the size that is exported; the cut is proved on that.
        multiple: a power of two of which the sides of its frames must be multiples.

    Raises:
        ContextError: there are such values, but what is left is still not local, or cannot be cut,
            or the cut does not fit `program`.
        ProofError: both parts together are not `program`.
    """
    small, large = (
        static_program(loaded, size=(side, side), allow_dynamic=True).program
        for side in (_SMALL, _LARGE)
    )
    whole = _of_the_whole(small, large)
    if not whole:
        return None
    extremes, spreads = _flattened(small, large)
    record = replace(_record(whole), extremes=extremes, spreads=spreads)
    context, measured = split(large, record)
    sight = _sight(context, measured, loaded.domain, multiple)
    if _wiring(split(program, record)[1]) != _wiring(measured):
        raise _unfit(f"what is left of it is not what was measured at {_LARGE}×{_LARGE}")
    frames = [example_frames(loaded.domain, *_size_of(program), seed=seed) for seed in (1, 2)]
    return Cut(record, sight, prove_cut(program, record, frames))


def prove_cut(
    program: fx.GraphModule, record: ContextRecord, frames: Sequence[Sequence[Tensor]]
) -> Proof:
    """That both parts of a program together are the program, in float64.

    Args:
        frames: one or more inputs of the program, float32 N×C×H×W each.

    Raises:
        ContextError: `record` is of another program.
        ProofError: the parts compute something else.
    """
    detail = f"cut at {', '.join(record.values)}: {record.channels} channels for the whole image"
    precise = copy.deepcopy(program).double()
    return prove_output("context", precise, _Whole(program, record).double(), frames, detail)


def split(program: fx.GraphModule, record: ContextRecord) -> tuple[fx.GraphModule, fx.GraphModule]:
    """(Context, Tile) of a program with the nodes that `record` names, quantised or not.

    Context takes short, mid, long and returns 1×K×h×w; Tile takes that, enlarged, as fourth input.

    Raises:
        ContextError: `record` is of another program.
    """
    return _context_part(program, record), _tile_part(program, record)


def context_example(record: ContextRecord, size: tuple[int, int]) -> Tensor:
    """What the tile part of `size` (H, W) takes as fourth input, zeros."""
    return torch.zeros(1, record.channels, *record.shape_at(size))


def _of_the_whole(small: fx.GraphModule, large: fx.GraphModule) -> dict[fx.Node, list[fx.Node]]:
    """The values of `small` that describe the whole image, each with its readers that do not."""
    others = {node.name: node for node in large.graph.nodes}
    of_frames = set(small.graph.find_nodes(op="placeholder"))
    whole: dict[fx.Node, None] = {}
    for node in small.graph.nodes:
        if node.op != "call_function" or not of_frames.intersection(node.all_input_nodes):
            continue
        of_frames.add(node)
        if node.name not in others:
            raise ContextError(
                f"the graph changes with the size of the frames ({node.name})",
                fix=f"write it so that it does the same at {_SMALL}×{_SMALL} and {_LARGE}×{_LARGE}",
            )
        if _shapes(node) == _shapes(others[node.name]):
            whole[node] = None
    readers = {node: [user for user in node.users if user not in whole] for node in whole}
    return {node: users for node, users in readers.items() if users}


def _flattened(
    small: fx.GraphModule, large: fx.GraphModule
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines that look for extremes over an axis of the image, and those for spreads."""
    others = {node.name: node for node in large.graph.nodes}

    def growth(node: fx.Node) -> float:
        shape, larger = _shapes(node)[0], _shapes(others.get(node.name, node))[0]
        return math.prod(larger) / math.prod(shape)

    reducing = [
        node
        for node in small.graph.nodes
        if node.op == "call_function"
        and node.all_input_nodes
        and growth(node) < growth(node.all_input_nodes[0])
    ]
    extremes = _lines(node for node in reducing if kind_of(node) in _EXTREMES)
    return extremes, _lines(node for node in reducing if _is_spread(node))


def _is_spread(node: fx.Node) -> bool:
    """A variance, or a mean of squares."""
    if kind_of(node) in _SPREADS:
        return True
    source = node.all_input_nodes[0]
    is_product = kind_of(source) == "aten.mul" and source.args[0] is source.args[1]
    is_power = kind_of(source) == "aten.pow" and source.args[1] in (2, 2.0)
    return (is_product or is_power) and kind_of(node) in _MEANS


def _lines(nodes: Iterable[fx.Node]) -> tuple[str, ...]:
    """Where the network asks for these: what a rewrite put in says so behind itself."""
    found = dict[str, None]()
    for first in nodes:
        node = first
        while not source_of(node) and node.users:
            node = next(iter(node.users))
        found[source_of(node) or op_name(first)] = None
    return tuple(found)


def _shapes(node: fx.Node) -> list[torch.Size]:
    """Of a tensor, or of each that an operator with several results returns (split, topk)."""
    return [value.shape for value in tree_leaves(node.meta.get("val"))]


def _record(readers_of: Mapping[fx.Node, Sequence[fx.Node]]) -> ContextRecord:
    """What the runtime has to know of the values that tiles read, and of who reads them."""
    values, readers = list(readers_of), list(chain.from_iterable(readers_of.values()))
    names = tuple(value.name for value in values)
    maps = [kind_of(user) == _ENLARGING for user in readers]
    if not any(maps):
        return ContextRecord(sum(math.prod(shape_of(value)) for value in values), names)
    grids = {shape_of(value)[2:] for value in values}
    sizes = {shape_of(user)[2:] for user in readers}
    if not all(maps) or len(readers) > len(values) or len(grids) > 1 or len(sizes) > 1:
        raise ContextError(
            f"values of the whole image are read in several ways ({', '.join(names)})",
            expected="vectors alone, or maps that are each enlarged once, to one size",
        )
    (rows, columns), (height, _) = grids.pop(), sizes.pop()
    channels = sum(shape_of(value)[1] for value in values)
    enlarged = tuple(user.name for user in readers)
    return ContextRecord(channels, names, enlarged, (rows, columns), _SMALL // height)


def _context_part(program: fx.GraphModule, record: ContextRecord) -> fx.GraphModule:
    part = copy.deepcopy(program)
    graph, output = part.graph, part.graph.output_node()
    values = [_node(part, name) for name in record.values]
    with graph.inserting_before(output):
        if not record.enlarged:
            flat = [1, -1, 1, 1]
            values = [graph.call_function(aten.reshape.default, (v, flat)) for v in values]
        several = len(values) > 1
        joined = graph.call_function(aten.cat.default, (values, 1)) if several else values[0]
    output.args = (joined,)
    return _settled(part, _zero_frames(part))


def _tile_part(program: fx.GraphModule, record: ContextRecord) -> fx.GraphModule:
    part = copy.deepcopy(program)
    graph = part.graph
    *_, last = graph.find_nodes(op="placeholder")
    with graph.inserting_after(last):
        context = graph.placeholder(CONTEXT_NAME)
    first = 0
    for name in record.enlarged or record.values:
        node = _node(part, name)
        shape = list(shape_of(node))
        count = shape[1] if record.enlarged else math.prod(shape)
        with graph.inserting_before(node):
            value = context
            if count != record.channels:
                value = graph.call_function(aten.slice.Tensor, (context, 1, first, first + count))
            if not record.enlarged:
                value = graph.call_function(aten.reshape.default, (value, shape))
        node.replace_all_uses_with(value)
        first += count
    if first != record.channels:
        raise _unfit(f"its values of the whole image have {first} channels, not {record.channels}")
    size = last.meta["val"].shape[2:]
    example = context_example(record, (int(size[0]), int(size[1])))
    return _settled(part, [*_zero_frames(part), example])


def _node(program: fx.GraphModule, name: str) -> fx.Node:
    for node in program.graph.nodes:
        if node.name == name:
            return node
    raise _unfit(f"it has no `{name}`, where the network is cut")


def _unfit(why: str) -> ContextError:
    return ContextError(
        f"the graph to be cut differs from that which the cut was found in: {why}",
        expected="a network that does the same with frames of every size",
        fix=f"export with --size {_SMALL}x{_SMALL}, where the cut was found",
    )


def _zero_frames(program: fx.GraphModule) -> list[Tensor]:
    values = (n.meta.get("val") for n in program.graph.find_nodes(op="placeholder"))
    return [torch.zeros(tuple(v.shape), dtype=v.dtype) for v in values if v is not None]


def _settled(part: fx.GraphModule, frames: Sequence[Tensor]) -> fx.GraphModule:
    part.graph.eliminate_dead_code()
    drop_unused_constants(part)
    part.graph.lint()
    part.recompile()
    refresh_meta(part, frames)
    return part


class _Whole(torch.nn.Module):
    """Both parts as one network again, for frames of the size of the thumbnails."""

    def __init__(self, program: fx.GraphModule, record: ContextRecord) -> None:
        super().__init__()
        self.context, self.tile = split(program, record)
        self.record = record

    def forward(self, *frames: Tensor) -> Tensor:
        context = self.context(*frames)
        size = self.record.shape_at((frames[0].shape[2], frames[0].shape[3]))
        if tuple(context.shape[2:]) != size:
            context = torch.nn.functional.interpolate(context, size=size, mode="nearest")
        result: Tensor = self.tile(*frames, context)
        return result


def _size_of(program: fx.GraphModule) -> tuple[int, int]:
    """H, W of the frames."""
    first, *_ = program.graph.find_nodes(op="placeholder")
    height, width = shape_of(first)[2:]
    return height, width


def _wiring(part: fx.GraphModule) -> list[tuple[str, list[int]]]:
    """Which operator reads the values of which others, whatever their names and sizes."""
    at = {node: index for index, node in enumerate(part.graph.nodes)}
    return [
        (
            op_name(node) if node.op == "call_function" else node.op,
            [at[n] for n in node.all_input_nodes],
        )
        for node in at
    ]


def _sight(context: fx.GraphModule, tile: fx.GraphModule, domain: str, multiple: int) -> Sight:
    """How far the tile part sees, and that it does the same wherever a piece of the frame lies.

    It is told what the context part makes of the same frames, everywhere the mean of it: with
    any other statistics a normalisation may leave nothing that a ReLU lets through.
    """
    precise = copy.deepcopy(tile).double()
    noise = example_frames(domain, _LARGE, _LARGE, seed=3)
    *_, fourth = tile.graph.find_nodes(op="placeholder")
    with torch.no_grad():
        told = context(*noise).mean((2, 3), keepdim=True)
    constant = told.expand(shape_of(fourth))
    frames = [frame.double().requires_grad_() for frame in noise]
    start = start_of_block(_LARGE)
    with InFloat64():
        block = precise(*frames, constant.double())[..., *_square(start)]
    seen = seen_by(block, frames)

    def still(radius: int) -> bool:
        near, channels = _square(start, radius), [frame.shape[1] for frame in frames]
        return holds(lambda x: tile(*x, constant), channels, (_LARGE, _LARGE), near, _square(start))

    def moves_along(by: int) -> bool:
        with torch.no_grad(), InFloat64():
            moved = [torch.roll(frame, (by, by), (2, 3)) for frame in frames]
            other = precise(*moved, constant.double())[..., *_square(start + by)]
        return torch.allclose(block, other, rtol=1e-9, atol=1e-12)

    radius = max(radius_of(seen.any(axis), start) for axis in (0, 1))
    radius = _confirmed(radius, still, start - BEYOND)
    steps = steps_of(moves_along, multiple)
    if steps is None:
        raise ContextError(
            "what the network does to a pixel depends on where the pixel lies",
            expected="a network that does the same everywhere, beside what it knows of the whole "
            "image: tiles of a larger frame lie elsewhere",
            fix="replace coordinates of pixels and grids that are laid over the whole image",
        )
    return Sight(radius, steps)


def _square(start: int, radius: int = 0) -> Window:
    """A block, and `radius` pixels around it."""
    side = slice(start - radius, start + BLOCK + radius)
    return side, side


def _confirmed(radius: int, still: Callable[[int], bool], most: int) -> int:
    """The radius that the gradient shows, or the larger one that it takes for a mask's sake."""
    found = radius if radius <= most and still(radius) else grown(still, radius, most)
    if found is None:
        raise ContextError(
            "cut where its values of the whole image are read, the network still sees all of it",
            expected=f"a halo of at most {most} pixels",
            fix="replace what sees all pixels inside one operator, such as cumsum",
        )
    return found
