"""Tensor networks in normal form: the algebra on which dynamic kernels are re-expressed.

A value is written as a sum of terms, and a term as one contraction (an einsum) of constants and of
tensors computed at run time:

    value[axes] = Σ_terms  c · Σ_internal labels  Π constants[labels] · Π leaves[labels]

    W0 + P Φ Qᵀ          →   W0[o,i,h,w]  +  P[o,l] Φ[b,l,m] Q[i,m] δ[h] δ[w]
    Σ_k α_k W_k          →   α[b,k] W[k,o,i,h,w]
    Λ_out W0 Λ_in        →   λ[b,o] W0[o,i,h,w] s[b,i]

A label that no axis carries is summed over. A label that a term lacks is broadcast. A tensor axis
is a tuple of labels in row-major order, so a reshape only regroups labels, splitting where needed.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from operator import mul

import torch
from torch import Tensor, fx

#: torch.einsum knows no more indices.
MAX_LABELS = len(string.ascii_letters)
# A mixture has as many terms as kernels; what has far more is no kernel, and takes for ever.
MAX_TERMS = 64


class NotAligned(Exception):
    """No sum of products over common labels, or a long one; the caller keeps the value whole."""


@dataclass(frozen=True, eq=False)
class Label:
    """An index that runs over `size` values; identity is what makes two labels the same."""

    size: int


Axis = tuple[Label, ...]
Renaming = Mapping[Label, Axis]


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor known at export; one dimension a label."""

    value: Tensor
    labels: Axis

    def renamed(self, names: Renaming) -> Constant:
        labels = tuple(new for label in self.labels for new in names.get(label, (label,)))
        return Constant(self.value.reshape([label.size for label in labels]), labels)


@dataclass(frozen=True)
class Leaf:
    """A tensor computed at run time by `node`, whose dimensions are `axes`."""

    node: fx.Node
    axes: tuple[Axis, ...]

    @property
    def labels(self) -> Axis:
        return tuple(label for axis in self.axes for label in axis)

    @property
    def spatial(self) -> frozenset[Label]:
        """Labels of H and W, when the leaf is a feature map N×C×H×W."""
        return frozenset(label for axis in self.axes[2:] for label in axis if len(self.axes) == 4)

    def renamed(self, names: Renaming) -> Leaf:
        return replace(self, axes=tuple(renamed_axis(axis, names) for axis in self.axes))


@dataclass(frozen=True)
class Window:
    """How a k×k window slides over a feature map."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


@dataclass(frozen=True)
class Windows(Leaf):
    """The windows of a feature map: axes are N, C, kernel rows, kernel columns, H_out, W_out."""

    window: Window

    @property
    def channels(self) -> Axis:
        return self.axes[1]

    @property
    def taps(self) -> Axis:
        return self.axes[2] + self.axes[3]

    @property
    def spatial(self) -> frozenset[Label]:
        return frozenset(self.axes[4] + self.axes[5])


Factor = Constant | Leaf


@dataclass(frozen=True)
class Term:
    """One contraction: a scalar times constants and leaves."""

    factors: tuple[Factor, ...]
    scale: float = 1.0

    @property
    def constants(self) -> tuple[Constant, ...]:
        return tuple(f for f in self.factors if isinstance(f, Constant))

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(f for f in self.factors if isinstance(f, Leaf))

    @property
    def labels(self) -> frozenset[Label]:
        return frozenset(label for factor in self.factors for label in factor.labels)

    def renamed(self, names: Renaming) -> Term:
        return replace(self, factors=tuple(factor.renamed(names) for factor in self.factors))


@dataclass(frozen=True)
class Value:
    """A sum of terms over common axes."""

    axes: tuple[Axis, ...]
    terms: tuple[Term, ...] = field(default=())

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size_of(axis) for axis in self.axes)

    @property
    def labels(self) -> Axis:
        return tuple(label for axis in self.axes for label in axis)

    def renamed(self, names: Renaming) -> Value:
        axes = tuple(renamed_axis(axis, names) for axis in self.axes)
        return Value(axes, tuple(term.renamed(names) for term in self.terms))


def size_of(axis: Iterable[Label]) -> int:
    """How many values the labels run over together."""
    return math.prod(label.size for label in axis)


def renamed_axis(axis: Axis, names: Renaming) -> Axis:
    return tuple(new for label in axis for new in names.get(label, (label,)))


def axis_of(size: int) -> Axis:
    """A fresh axis; one of size 1 needs no label."""
    return (Label(size),) if size != 1 else ()


def constant(tensor: Tensor) -> Value:
    """A tensor known at export as a value of one term, an axis a dimension."""
    axes = tuple(axis_of(size) for size in tensor.shape)
    labels = tuple(label for axis in axes for label in axis)
    factor = Constant(tensor.double().reshape([label.size for label in labels]), labels)
    return Value(axes, (Term((factor,)),))


def leaf(node: fx.Node) -> Value:
    """What `node` computes, taken as it stands."""
    axes = tuple(axis_of(size) for size in node.meta["val"].shape)
    return Value(axes, (Term((Leaf(node, axes),)),))


def windows(node: fx.Node, window: Window, out_size: Sequence[int]) -> Value:
    """All windows of the feature map `node` (N×C×H×W): axes N, C, kh, kw, H_out, W_out."""
    batch, channels = node.meta["val"].shape[:2]
    axes = tuple(axis_of(n) for n in (batch, channels, *window.kernel, *out_size))
    return Value(axes, (Term((Windows(node, axes, window),)),))


def fresh(value: Value) -> Value:
    """The same value with labels of its own, so that it can meet itself in a product."""
    labels = {label for term in value.terms for label in term.labels} | set(value.labels)
    return value.renamed({label: (Label(label.size),) for label in labels})


# ---- shape ---------------------------------------------------------------------------------------


def reshape(value: Value, shape: Sequence[int]) -> Value:
    """Regroup the labels row-major into `shape`, splitting a label that straddles a boundary."""
    pieces = _common_labels([label.size for label in value.labels], shape)
    value = value.renamed(_dealt(pieces, value.labels))
    return Value(tuple(_grouped(pieces, shape)), value.terms)


def permute(value: Value, order: Sequence[int]) -> Value:
    """Axis `order[i]` becomes axis i."""
    return Value(tuple(value.axes[i] for i in order), value.terms)


def _common_labels(a: Sequence[int], b: Sequence[int]) -> list[Label]:
    """Fresh labels into which axes of both lists of sizes can be cut: [6] and [2, 3] → 2, 3."""
    cuts = sorted({*accumulate(a, mul, initial=1), *accumulate(b, mul, initial=1)})
    if math.prod(a) != math.prod(b) or any(big % small for small, big in pairwise(cuts)):
        raise NotAligned(f"sizes {list(a)} and {list(b)} have no common refinement")
    return [Label(big // small) for small, big in pairwise(cuts)]


def _grouped(pieces: Sequence[Label], sizes: Sequence[int]) -> list[Axis]:
    """Consecutive runs of `pieces` whose products are `sizes`."""
    rest, groups = list(pieces), list[Axis]()
    for size in sizes:
        group: Axis = ()
        while size_of(group) < size:
            group += (rest.pop(0),)
        groups.append(group)
    return groups


def _dealt(pieces: Sequence[Label], labels: Sequence[Label]) -> dict[Label, Axis]:
    """label → the run of `pieces` that it is cut into."""
    return dict(zip(labels, _grouped(pieces, [label.size for label in labels]), strict=True))


# ---- sums and products ---------------------------------------------------------------------------


def add(a: Value, b: Value, *, scale: float = 1.0) -> Value:
    """a + scale · b, with broadcasting."""
    a, b = _met(a, b)
    terms = tuple(replace(term, scale=term.scale * scale) for term in b.terms)
    return Value(_broadcast(a.axes, b.axes), a.terms + terms)


def multiply(a: Value, b: Value) -> Value:
    """a · b element by element, with broadcasting."""
    a, b = _met(a, b)
    return Value(_broadcast(a.axes, b.axes), _products(a, b))


def scaled(value: Value, factor: float) -> Value:
    return Value(value.axes, tuple(replace(t, scale=t.scale * factor) for t in value.terms))


def total(value: Value, dims: Sequence[int], *, keepdim: bool) -> Value:
    """The sum over `dims`."""
    gone = {label for dim in dims for label in value.axes[dim]}
    terms = tuple(
        replace(term, scale=term.scale * size_of(gone - term.labels)) for term in value.terms
    )
    keep = [
        () if i in dims else axis for i, axis in enumerate(value.axes) if keepdim or i not in dims
    ]
    return Value(tuple(keep), terms)


def einsum(operands: Sequence[Value], inputs: Sequence[str], output: str) -> Value:
    """Einstein summation; letters of `inputs` name the axes of `operands`."""
    product: Value | None = None
    letters = ""
    for value, names in zip(operands, inputs, strict=True):
        if len(set(names)) != len(names):
            raise NotAligned("a repeated index in one operand")
        if product is None:
            product, letters = fresh(value), names
            continue
        new = "".join(c for c in names if c not in letters)
        wide = Value(product.axes + ((),) * len(new), product.terms)
        letters += new
        axes = tuple(value.axes[names.index(c)] if c in names else () for c in letters)
        product = multiply(wide, Value(axes, value.terms))
    assert product is not None
    summed = [i for i, c in enumerate(letters) if c not in output]
    kept = "".join(c for c in letters if c in output)
    return permute(total(product, summed, keepdim=False), [kept.index(c) for c in output])


def selected(value: Value, dim: int, matrix: Tensor) -> Value:
    """Apply a constant `matrix` (new × old) to one axis: slice, pad, concatenate, flip."""
    names = string.ascii_lowercase[: len(value.axes)]
    output = names.replace(names[dim], "Z")
    return einsum([value, constant(matrix)], [names, "Z" + names[dim]], output)


def contracted(constants: Sequence[Constant], labels: Sequence[Label]) -> Tensor:
    """The constants multiplied and summed to a tensor over `labels`; absent labels are repeated."""
    every = {label for item in constants for label in item.labels} | set(labels)
    if len(every) > MAX_LABELS:
        raise NotAligned(f"{len(every)} labels at once, at most {MAX_LABELS}")
    letter = dict(zip(every, string.ascii_letters, strict=False))
    present = {label for item in constants for label in item.labels}
    shape = [label.size for label in labels]
    if not constants:
        return torch.ones(shape, dtype=torch.float64)
    equation = ",".join("".join(letter[x] for x in item.labels) for item in constants)
    kept = [label for label in labels if label in present]
    equation += "->" + "".join(letter[label] for label in kept)
    value = torch.einsum(equation, *(item.value for item in constants))
    view = [label.size if label in present else 1 for label in labels]
    return value.reshape(view).expand(shape)


def _met(a: Value, b: Value) -> tuple[Value, Value]:
    """Both values with inner labels of their own, equal rank, and common labels on shared axes."""
    rank = max(len(a.axes), len(b.axes))
    a, b = fresh(_padded(a, rank)), fresh(_padded(b, rank))
    names_a, names_b = dict[Label, Axis](), dict[Label, Axis]()
    for x, y in zip(a.axes, b.axes, strict=True):
        if x and y:
            pieces = _common_labels([label.size for label in x], [label.size for label in y])
            names_a |= _dealt(pieces, x)
            names_b |= _dealt(pieces, y)
    return a.renamed(names_a), b.renamed(names_b)


def _padded(value: Value, rank: int) -> Value:
    return Value(((),) * (rank - len(value.axes)) + value.axes, value.terms)


def _broadcast(a: Sequence[Axis], b: Sequence[Axis]) -> tuple[Axis, ...]:
    return tuple(x or y for x, y in zip(a, b, strict=True))


def _products(a: Value, b: Value) -> tuple[Term, ...]:
    count = len(a.terms) * len(b.terms)
    if count > MAX_TERMS:  # gates of gates: each doubles the degree
        raise NotAligned(f"a sum of {count} products, at most {MAX_TERMS}")
    return tuple(Term(x.factors + y.factors, x.scale * y.scale) for x in a.terms for y in b.terms)
