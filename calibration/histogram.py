"""A histogram of fixed size that merges exactly.

The grid never depends on the data, so counts add: histograms of two halves sum to the histogram
of the whole, bit for bit, in any order. It is log-linear: each octave of magnitude is cut into
`PER_OCTAVE` equal parts, which is what the top bits of an IEEE 754 float32 already are. The bin of
a value is therefore read from its bits; no logarithm is taken, so no rounding differs between
hosts.

Bins, from most negative to most positive:

    [-inf, -2^24] | negative octaves | |x| < 2^-24 | positive octaves | [2^24, inf]
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

#: Octaves covered on each side: magnitudes from 2^FIRST_EXPONENT up to 2^LAST_EXPONENT.
FIRST_EXPONENT, LAST_EXPONENT = -24, 24
#: Parts of an octave, a power of two. A bin is at most 1/32 of its own magnitude wide.
PER_OCTAVE = 32

_PART_BITS = PER_OCTAVE.bit_length() - 1
_SHIFT = 23 - _PART_BITS
_SIDE = (LAST_EXPONENT - FIRST_EXPONENT) * PER_OCTAVE
#: The bin of zero; positive magnitudes count up from it, negative ones down.
ZERO_BIN = _SIDE + 1
BINS = 2 * ZERO_BIN + 1
#: Part number, in float32 bits, just below the first bin of a side.
_BASE = ((FIRST_EXPONENT + 127) << _PART_BITS) - 1
_CHUNK = 1 << 20


class Histogram:
    """How often each magnitude occurred, with the exact minimum, maximum and count.

    `counts` is int64 of length `BINS` whatever was seen.
    """

    __slots__ = ("counts", "max", "min")

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.min, self.max = float("inf"), float("-inf")

    @property
    def count(self) -> int:
        """Number of values seen."""
        return int(self.counts.sum())

    def update(self, values: Tensor) -> None:
        """Count `values`, a floating-point tensor of any shape.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        if values.numel() == 0:
            return
        flat = values.detach().to(torch.float32).reshape(-1)
        low, high = (float(bound) for bound in torch.aminmax(flat))
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("holds NaN or infinite values")
        for chunk in flat.split(_CHUNK):
            self.counts += torch.bincount(_bin_of(chunk), minlength=BINS).numpy()
        # + 0.0 turns the negative zero into zero: equal values must be equal bytes.
        self.min, self.max = min(self.min, low) + 0.0, max(self.max, high) + 0.0

    def merged(self, other: Histogram) -> Histogram:
        """The histogram of both; associative and commutative, exactly."""
        both = Histogram()
        both.counts = self.counts + other.counts
        both.min, both.max = min(self.min, other.min), max(self.max, other.max)
        return both

    def share_outside(self, low: float, high: float) -> float:
        """Share of the values, in [0, 1], that a range low..high would clip."""
        return 1 - float(self.inside(low, high)) / self.count if self.count else 0.0

    def inside(self, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
        """How many values lie in low..high, ends included, taken as uniform within a bin."""
        below = np.where(np.less_equal(low, self.min), 0.0, self._up_to(low))
        up_to = np.where(np.greater_equal(high, self.max), self.count, self._up_to(high))
        return up_to - below

    def _up_to(self, values: np.ndarray | float) -> np.ndarray:
        cumulative = np.concatenate(([0], np.cumsum(self.counts)))
        return np.interp(values, self.edges(), cumulative)

    def edges(self) -> np.ndarray:
        """The `BINS` + 1 bin edges, cut to [min, max], float64, not decreasing."""
        return np.clip(_EDGES, self.min, self.max)

    def to_json(self) -> dict[str, Any]:
        """Plain data; `runs` lists [first bin, count, count, ...] of each stretch without zeros."""
        filled = np.flatnonzero(self.counts)
        stretches = np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1)
        runs = [[int(s[0]), *self.counts[s].tolist()] for s in stretches if s.size]
        bounds = [self.min, self.max] if runs else None
        return {"bounds": bounds, "runs": runs}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Histogram:
        """The inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: `data` is not what `to_json` writes.
        """
        histogram = cls()
        for first, *counts in data["runs"]:
            if not 0 <= first <= first + len(counts) <= BINS or min(counts) < 1:
                raise ValueError(f"a run at bin {first} lies outside the grid of {BINS} bins")
            histogram.counts[first : first + len(counts)] = counts
        if data["runs"]:
            low, high = data["bounds"]
            histogram.min, histogram.max = float(low), float(high)
        return histogram

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        same_bounds = (self.min, self.max) == (other.min, other.max)
        return same_bounds and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]  # mutable


def _bin_of(values: Tensor) -> Tensor:
    """Bin of each float32 value, int64."""
    bits = values.view(torch.int32)
    part = ((bits & 0x7FFFFFFF) >> _SHIFT).sub_(_BASE).clamp_(0, _SIDE + 1)
    return torch.where(bits < 0, ZERO_BIN - part, ZERO_BIN + part).to(torch.int64)


def _edges() -> np.ndarray:
    octaves = 2.0 ** np.arange(FIRST_EXPONENT, LAST_EXPONENT)
    parts = 1 + np.arange(PER_OCTAVE) / PER_OCTAVE
    positive = np.append(np.outer(octaves, parts).ravel(), 2.0**LAST_EXPONENT)
    return np.concatenate(([-np.inf], -positive[::-1], positive, [np.inf]))


_EDGES = _edges()
