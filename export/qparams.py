"""The scale and zero-point of each tensor, and which tensors have to have the same.

A value x with range [low, high] becomes s·(clamp(round(x / s) + z, −128, 127) − z). Where values
are only moved or joined one scale serves all of them: their ranges are shared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import fx

from pockethdr.errors import PocketError
from pockethdr.export.program import kind_of

QMIN, QMAX = -128, 127


class RangeError(PocketError):
    """A calibrated range is missing or is not one."""


@dataclass(frozen=True)
class Params:
    """Scale and zero-point of one tensor; `of` names the values whose range they stand for.

    `of` is empty where the range is the kernel's own, or a constant's.
    """

    scale: float
    zero: int
    of: frozenset[str] = field(default=frozenset(), compare=False)


#: Integer kernels of these give a fixed output scale, the whole range of the function.
FIXED = {
    "aten.tanh": (Params(1 / 128, 0), Params(1 / 127, 0)),
    "aten.sigmoid": (Params(1 / 256, -128), Params(1 / 127, 0)),
}


def params_of(low: float, high: float, *, symmetric: bool) -> Params:
    """Scale and zero-point of a range, widened to hold 0 so that zero padding is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Params(1 / 255, 0)
    if symmetric:
        return Params(max(-low, high) / QMAX, 0)
    scale = (high - low) / (QMAX - QMIN)
    return Params(scale, max(QMIN, min(QMAX, round(QMIN - low / scale))))


class SharedRanges:
    """The parameters of each value: its own range, or the one it shares.

    Args:
        ranges: node name → (low, high) of its value.
        margin: factor on every range.
        symmetric: zero-point 0.
    """

    def __init__(
        self, ranges: Mapping[str, tuple[float, float]], *, margin: float, symmetric: bool
    ) -> None:
        self.ranges, self.margin, self.symmetric = ranges, margin, symmetric
        self.group: dict[fx.Node, fx.Node] = {}
        self.members: dict[fx.Node, list[fx.Node]] = {}

    def fixed(self, node: fx.Node) -> Params | None:
        """The kernel's own output parameters, for the node or any in its group."""
        for member in self._members_of(node):
            if kind_of(member) in FIXED:
                return FIXED[kind_of(member)][self.symmetric]
        return None

    def share(self, node: fx.Node, other: fx.Node) -> None:
        """Give two values one range."""
        into, gone = self._root(node), self._root(other)
        if into is not gone:
            members = self._members_of(into) + self._members_of(gone)
            self.members[into] = members
            self.group.update(dict.fromkeys(members, into))

    def params(self, node: fx.Node) -> Params:
        """Scale and zero-point of the union of the ranges that are shared.

        Raises:
            RangeError: one of them has no range, or one that is not finite.
        """
        fixed = self.fixed(node)
        if fixed is not None:
            return fixed
        members = self._members_of(node)
        bounds = [self._range(member) for member in members]
        low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
        found = params_of(low * self.margin, high * self.margin, symmetric=self.symmetric)
        return replace(found, of=frozenset(member.name for member in members))

    def _root(self, node: fx.Node) -> fx.Node:
        return self.group.get(node, node)

    def _members_of(self, node: fx.Node) -> list[fx.Node]:
        return self.members.get(self._root(node), [node])

    def _range(self, node: fx.Node) -> tuple[float, float]:
        if node.name not in self.ranges:
            raise RangeError(
                f"no calibrated range for `{node.name}` ({kind_of(node)})",
                expected="one range for every value that becomes INT8",
                fix="calibrate this very network, size and recipe again",
            )
        low, high = self.ranges[node.name]
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise RangeError(
                f"range of `{node.name}` is [{low}, {high}]",
                expected="two finite numbers, the lower first",
                fix="calibrate again; a NaN here comes from the weights or a bracket",
            )
        return low, high
