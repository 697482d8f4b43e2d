"""Which operations of a program run on integers, and which stay float and why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import fx

from pockethdr.export.aten import Conv, arguments, is_conv
from pockethdr.export.program import constant_of, kind_of, module_of, shape_of
from pockethdr.export.recipe import RECIPES, Recipe, RecipeError
from pockethdr.export.scheme import Scheme

PRODUCTS = frozenset({"aten.mm", "aten.bmm", "aten.addmm", "aten.matmul", "aten.linear"})
#: Clamping activations that integer kernels apply inside the operation before them.
FUSED = frozenset({"aten.relu", "aten.relu6"})
#: The output's values are the input's, or averages of them: one scale serves both.
RELAYOUTS = frozenset(
    f"aten.{name}"
    for name in (
        *("pixel_shuffle", "pixel_unshuffle", "slice", "select", "view", "reshape"),
        *("permute", "transpose", "clone", "alias", "expand", "repeat", "squeeze", "unsqueeze"),
        *("max_pool2d", "avg_pool2d", "constant_pad_nd", "pad"),
        *("upsample_nearest2d", "upsample_bilinear2d"),
    )
)
#: Relayouts that compute nothing, not even a mean.
MOVES = RELAYOUTS - {"aten.avg_pool2d", "aten.upsample_bilinear2d"}
#: Operands and result have one scale where a runtime has integer kernels for them.
JOINS = frozenset({"aten.cat", "aten.maximum", "aten.minimum"})
ARITHMETIC = frozenset({"aten.add", "aten.sub", "aten.mul"})
OTHERS = frozenset({"aten.cat", "aten.leaky_relu", "aten.tanh", "aten.sigmoid", "aten.mean"})
INTEGER = FUSED | RELAYOUTS | ARITHMETIC | OTHERS

_NO_FLOATS = "it computes truth values or whole numbers"

#: Values of at most this many pixels are context, when the frames are at least 16 times larger.
TINY = 16


@dataclass(frozen=True)
class Placement:
    """`integer` in graph order; `floats` maps every other operation to the reason."""

    integer: tuple[fx.Node, ...]
    floats: dict[fx.Node, str]


def placement_for(program: fx.GraphModule, recipe: Recipe, scheme: Scheme) -> Placement:
    """Decide for every operation of `program` whether it runs on integers.

    Args:
        program: traced program; constants are `get_attr` nodes.
        recipe: what the user wants float.
        scheme: what the target can have integer.
    """
    reasons = _reasons_of_recipe(program, recipe)
    for node in operations(program):
        reason = _reason_of_kind(node, program, scheme)
        if node not in reasons and reason is not None:
            reasons[node] = reason
        if node not in reasons and _reads_only_floats(node, reasons):
            reasons[node] = "reads only float values"
    if not scheme.float_joins:
        _make_joins_integer(program, reasons)
    integer = tuple(node for node in operations(program) if node not in reasons)
    return Placement(integer, reasons)


def check_patterns(program: fx.GraphModule, recipe: Recipe) -> None:
    """Refuse a pattern of the user's own that keeps nothing in float: it is misspelt.

    Those of named recipes are meant for networks of every kind.

    Raises:
        RecipeError: with the name that it comes nearest to.
    """
    named = {pattern for other in RECIPES.values() for pattern in other.float_nodes}
    names = {name for node in operations(program) for name in _names(node) if name}
    for pattern in recipe.float_nodes:
        if pattern not in named and not any(fnmatchcase(name, pattern) for name in names):
            close = get_close_matches(pattern, sorted(names), n=1)
            raise RecipeError(
                f"recipe: nothing in this network matches float_nodes `{pattern}`",
                expected="a name, or a pattern with * and ?, of an operation (conv2d_3), a module "
                "(body.0.conv) or an operator (aten.add)",
                fix=f"did you mean `{close[0]}`?"
                if close
                else "`pockethdr debug` lists the modules of an export",
            )


def operations(program: fx.GraphModule) -> list[fx.Node]:
    """Every call that produces a tensor, in graph order."""
    return [n for n in program.graph.nodes if n.op == "call_function"]


def macs_of(node: fx.Node) -> int:
    """Multiply-accumulates of a convolution or matrix product; 0 for anything else."""
    if is_conv(node):
        return Conv(node).macs
    if kind_of(node) in PRODUCTS:
        left = node.all_input_nodes[1 if kind_of(node) == "aten.addmm" else 0]
        return math.prod(shape_of(node)) * shape_of(left)[-1]
    return 0


def is_move(node: fx.Node) -> bool:
    """Whether `node` hands on values of one tensor: a relayout, or a concatenation of its pieces.

    Such an operation runs on whatever its tensor does. In float behind an integer tensor it would
    cost a conversion, gain nothing, and newer versions of ONNX Runtime would not load it on x86
    (they put a QuantizeLinear of two minds behind it).
    """
    if kind_of(node) == "aten.cat":
        origins = {_origin(value) for value in node.all_input_nodes}
        return len(origins) == 1 and all(origin.op != "get_attr" for origin in origins)
    return kind_of(node) in MOVES


def handed_on_below_zero(program: fx.GraphModule) -> dict[str, float]:
    """Name of an operation → how much of an error below zero its readers hand on, at most 1.

    A ReLU hands on nothing, a leaky one its slope.
    """
    found: dict[fx.Node, float] = {}
    for node in reversed(operations(program)):
        found[node] = max((_handed_on(user, found) for user in node.users), default=1.0)
    return {node.name: share for node, share in found.items()}


def _handed_on(reader: fx.Node, known: dict[fx.Node, float]) -> float:
    if kind_of(reader) in FUSED:
        return 0.0
    if kind_of(reader) == "aten.leaky_relu":
        return min(1.0, abs(arguments(reader)["negative_slope"]))
    return known[reader] if is_move(reader) else 1.0


def readers_behind(value: fx.Node, through: frozenset[str]) -> Iterator[fx.Node]:
    """What reads a value at once, or behind operations of the kinds in `through`."""
    for user in value.users:
        if kind_of(user) in through:
            yield from readers_behind(user, through)
        else:
            yield user


def _origin(node: fx.Node) -> fx.Node:
    """What `node` is a rearrangement of."""
    while is_move(node):
        node = node.all_input_nodes[0]
    return node


def _reasons_of_recipe(program: fx.GraphModule, recipe: Recipe) -> dict[fx.Node, str]:
    first, last = _first(program), _last(program)
    reasons = {}
    for node in operations(program):
        pattern = None if is_move(node) else _matching(node, recipe.float_nodes)
        if pattern is not None:
            reasons[node] = f"recipe: matches `{pattern}`"
        elif recipe.float_first and node in first:
            reasons[node] = "recipe: at the inputs"
        elif recipe.float_last and node in last:
            reasons[node] = "recipe: at the output"
        elif recipe.float_tail and node in last and _computes(node):
            reasons[node] = "recipe: after the last convolution"
        elif recipe.float_context and not is_move(node) and _is_context(node, program):
            reasons[node] = "recipe: pooled context"
    return reasons


def _computes(node: fx.Node) -> bool:
    """Whether `node` makes new values, rather than moving those it reads or multiplying weights."""
    return not is_conv(node) and not is_move(node)


def _matching(node: fx.Node, patterns: tuple[str, ...]) -> str | None:
    names = _names(node)
    return next((p for p in patterns if any(fnmatchcase(name, p) for name in names)), None)


def _names(node: fx.Node) -> tuple[str, str, str]:
    """What a recipe may call an operation."""
    return node.name, module_of(node), kind_of(node)


def _first(program: fx.GraphModule) -> set[fx.Node]:
    """Operations with no convolution before them: the first convolutions and what feeds them."""
    after: set[fx.Node] = set()
    for node in program.graph.nodes:
        if any(is_conv(n) or n in after for n in node.all_input_nodes):
            after.add(node)
    return {node for node in program.graph.nodes if node not in after}


def _last(program: fx.GraphModule) -> set[fx.Node]:
    """Operations with no convolution after them: the last convolutions and the tail."""
    before: set[fx.Node] = set()
    for node in reversed(program.graph.nodes):
        if any(is_conv(n) or n in before for n in node.users):
            before.add(node)
    return {node for node in program.graph.nodes if node not in before}


def _is_context(node: fx.Node, program: fx.GraphModule) -> bool:
    frame, *_ = program.graph.find_nodes(op="placeholder")
    pixels = _pixels(shape_of(node))
    return pixels <= TINY and pixels * TINY <= _pixels(shape_of(frame))


def _pixels(shape: tuple[int, ...]) -> int:
    return math.prod(shape[2:]) if len(shape) == 4 else 1


def _reason_of_kind(node: fx.Node, program: fx.GraphModule, scheme: Scheme) -> str | None:
    """Why no integer kernel exists for `node`, or None."""
    kind = kind_of(node)
    if is_conv(node):
        return _reason_of_convolution(Conv(node), program, scheme)
    if scheme.placement == "inputs":
        return "the scheme quantises the inputs of convolutions only"
    if kind not in INTEGER or not shape_of(node):
        return f"no integer kernel for {kind}"
    if not node.meta["val"].is_floating_point():
        return _NO_FLOATS
    if kind in ARITHMETIC and len(node.all_input_nodes) < 2 and not _is_square(node):
        return "an operand is a number"
    return None


def _is_square(node: fx.Node) -> bool:
    return len(node.args) >= 2 and node.args[0] is node.args[1]


def _reason_of_convolution(conv: Conv, program: fx.GraphModule, scheme: Scheme) -> str | None:
    if constant_of(conv.weight, program) is None:
        return "its weight is computed at run time"
    if conv.transposed and conv.groups > 1:
        return "a grouped transposed convolution has no per-channel weight axis"
    if conv.transposed and not scheme.transposed:
        return "this target has no integer transposed convolution"
    return None


def _make_joins_integer(program: fx.GraphModule, reasons: dict[fx.Node, str]) -> None:
    """Take the reason from every join with an operand that is an integer, for itself or others."""
    joins = [n for n in operations(program) if kind_of(n) in JOINS]
    floats = [n for n in joins if reasons.get(n, _NO_FLOATS) != _NO_FLOATS]
    changed = True
    while changed:
        met = [n for n in floats if n in reasons and _meets_integers(n, reasons)]
        for node in met:
            del reasons[node]
        changed = bool(met)


def _meets_integers(node: fx.Node, reasons: dict[fx.Node, str]) -> bool:
    values = [n for n in node.all_input_nodes if n.op == "call_function"]
    readers = [user for value in values for user in value.users if user.op == "call_function"]
    return any(n not in reasons for n in (*values, *readers) if n is not node)


def _reads_only_floats(node: fx.Node, reasons: dict[fx.Node, str]) -> bool:
    """Whether running `node` on integers would only move a rounding to before it.

    A convolution gains speed from it and a concatenation shares its inputs' roundings.
    """
    if is_conv(node) or (kind_of(node) == "aten.cat" and not is_move(node)):
        return False
    return all(n in reasons or n.op in ("get_attr", "placeholder") for n in node.all_input_nodes)
