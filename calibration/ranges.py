"""From a histogram to the range that a tensor is quantised over. Four methods, one signature.

A range always includes zero, so that padding and ReLU stay exact, and is never empty.

minmax      All that was seen.
percentile  Each tail keeps 99.99 % of the values: Wu et al., "Integer Quantization for Deep
            Learning Inference" (arXiv:2004.09602), §4.3; for asymmetric ranges tail by tail.
mse         Least mean squared error of quantise-dequantise: Nagel et al., "A White Paper on Neural
            Network Quantization" (arXiv:2106.08295), §3.1, eq. 2.31. The error within a bin is
            integrated in closed form, the two ends are searched in turn.
entropy     Least Kullback-Leibler divergence of the clipped and quantised distribution of |x|:
            Migacz, "8-bit Inference with TensorRT" (GTC 2017). One threshold clips both ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from pockethdr.calibration.histogram import FIRST_EXPONENT, Histogram
from pockethdr.errors import PocketError

#: Levels are 2^BITS, of symmetric ranges one fewer.
BITS = 8
#: Share of the values within a tail's end; `percentile` only.
KEPT = 0.9999
#: Narrower tensors count as all zero: the histogram's grid ends here, and so does float rounding.
SMALLEST_WIDTH = 2.0**FIRST_EXPONENT
#: Narrower ones keep all that was seen: 8 bits of them are finer than the grid to choose by.
_LEAST_CHOSEN = 2.0**BITS * SMALLEST_WIDTH

#: Candidates for one end of a range, as shares of the extreme, and the finer ones between two.
_SHARES = np.geomspace(1.0, 0.01, 17)
_BETWEEN = np.geomspace(_SHARES[1], 1 / _SHARES[1], 11)
_ENTROPY_BINS = 2048


class _Ends(NamedTuple):
    low: float
    high: float


class Range(_Ends):
    """A closed range of real values, low ≤ 0 ≤ high, low < high; unpacks as (low, high)."""

    __slots__ = ()

    def __new__(cls, low: float, high: float) -> Range:
        if not low <= 0 <= high or low == high:
            raise ValueError(f"a range {low}..{high} must include zero and be wider")
        return super().__new__(cls, float(low), float(high))


def range_of(
    histogram: Histogram, method: str, *, symmetric: bool = False, below: float = 1.0
) -> Range:
    """The range of one tensor.

    Args:
        histogram: what was seen of it.
        method: a key of `METHODS`.
        symmetric: low == -high.
        below: how much of an error below zero its readers hand on, such as the slope of a leaky
            ReLU; `mse` only.

    Raises:
        PocketError: an unknown method.
    """
    if method not in METHODS:
        raise PocketError(f"unknown calibration method {method!r}", expected=", ".join(METHODS))
    low, high = min(histogram.min, 0.0), max(histogram.max, 0.0)
    if not high - low > SMALLEST_WIDTH:
        return Range(-1.0, 1.0) if symmetric else Range(0.0, 1.0)
    if high - low > _LEAST_CHOSEN:
        low, high = METHODS[method](histogram, _Settings(symmetric, low, high, below))
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    # -0.0 + 0.0 is 0.0; equal ranges must print alike.
    return Range(float(low) + 0.0, float(high) + 0.0)


def ranges_of(
    tensors: Mapping[str, Histogram],
    method: str,
    *,
    methods: Mapping[str, str],
    symmetric: bool = False,
    below: Mapping[str, float],
) -> dict[str, Range]:
    """Name → range of each tensor; see `range_of`.

    Args:
        methods: name → method, of the tensors that have one of their own.
        below: name → `below`, of the tensors whose readers do not hand on all.
    """
    return {
        name: range_of(
            histogram,
            methods.get(name, method),
            symmetric=symmetric,
            below=below.get(name, 1.0),
        )
        for name, histogram in tensors.items()
    }


@dataclass(frozen=True)
class _Settings:
    symmetric: bool
    low: float  # the exact minimum, at most 0
    high: float  # the exact maximum, at least 0
    below: float


def _minmax(histogram: Histogram, settings: _Settings) -> tuple[float, float]:
    return settings.low, settings.high


def _percentile(histogram: Histogram, settings: _Settings) -> tuple[float, float]:
    if settings.symmetric:
        return _percentile_of_magnitude(histogram, settings)
    filled = np.flatnonzero(histogram.counts)
    edges = histogram.edges()
    cumulative = np.concatenate(([0], np.cumsum(histogram.counts))) / histogram.count
    # Both ends of each filled bin: between two of them lies no value to cut at.
    values = np.stack([edges[filled], edges[filled + 1]], axis=1).ravel()
    shares = np.stack([cumulative[filled], cumulative[filled + 1]], axis=1).ravel()
    low, high = np.interp([1 - KEPT, KEPT], shares, values)
    return min(low, 0.0), max(high, 0.0)


def _percentile_of_magnitude(histogram: Histogram, settings: _Settings) -> tuple[float, float]:
    reach = max(-settings.low, settings.high)
    low, high = 0.0, reach
    for _ in range(60):  # bisection; the share outside falls as the range grows
        middle = (low + high) / 2
        outside = histogram.share_outside(-middle, middle)
        low, high = (middle, high) if outside > 1 - KEPT else (low, middle)
    return -high, high


def _mse(histogram: Histogram, settings: _Settings) -> tuple[float, float]:
    levels = 2**BITS - (2 if settings.symmetric else 1)
    error = _QuantisationError(histogram, levels, settings.below)
    if settings.symmetric:
        reach = max(-settings.low, settings.high)
        best = _best_end(reach, lambda end: error(-end, end))
        return -best, best
    low, high = settings.low, settings.high
    for _ in range(3):
        before = low, high
        high = _best_end(settings.high, partial(error, low))
        low = _best_end(settings.low, partial(error, high=high))
        if (low, high) == before:
            break
    return low, high


def _best_end(extreme: float, error: Callable[[float], float]) -> float:
    """The share of `extreme` of least error: coarse steps first, then fine ones around the best."""
    if not extreme:
        return extreme
    coarse = min(extreme * _SHARES, key=error)
    fine = [end for end in coarse * _BETWEEN if abs(end) <= abs(extreme)]
    return float(min([coarse, *fine], key=error))


class _QuantisationError:
    """Sum over a histogram of (f(quantised(x)) - f(x))², x uniform within each bin.

    f(x) = x above zero, `below` · x below it.
    """

    def __init__(self, histogram: Histogram, levels: int, below: float) -> None:
        filled = histogram.counts > 0
        edges = histogram.edges()
        self.left, self.right = edges[:-1][filled], edges[1:][filled]
        self.counts, self.levels = histogram.counts[filled].astype(float), levels
        self.counts[self.right <= 0] *= below**2
        # A bin cut to one value (clipped pixels at exactly 1.0) still weighs.
        self.left = np.minimum(self.left, self.right - 1e-6 * np.abs(self.right) - 1e-12)
        self.width = self.right - self.left

    def __call__(self, low: float, high: float) -> float:
        step = (high - low) / self.levels
        left, right = np.clip(self.left, low, high), np.clip(self.right, low, high)
        rounding = step**3 * (_rounding_integral(right / step) - _rounding_integral(left / step))
        above = _cubed(self.right - high) - _cubed(self.left - high)
        below = _cubed(low - self.left) - _cubed(low - self.right)
        return float(self.counts @ ((rounding + above + below) / self.width))


def _rounding_integral(t: np.ndarray) -> np.ndarray:
    """∫₀ᵗ (u - round u)² du."""
    whole = np.round(t)
    return whole / 12 + (t - whole) ** 3 / 3


def _cubed(excess: np.ndarray) -> np.ndarray:
    """∫ of max(0, u)² up to `excess`."""
    return np.maximum(excess, 0.0) ** 3 / 3


def _entropy(histogram: Histogram, settings: _Settings) -> tuple[float, float]:
    reach = max(-settings.low, settings.high)
    edges = np.linspace(0.0, reach, _ENTROPY_BINS + 1)
    # Zeros quantise without error whatever the range; counting them would drown the rest.
    counts = np.diff(histogram.inside(-edges, edges))
    counts[0] = counts[1]
    one_sided = not settings.symmetric and (settings.low == 0 or settings.high == 0)
    levels = 2**BITS if one_sided else 2 ** (BITS - 1)
    candidates = range(levels, _ENTROPY_BINS + 1, max(1, _ENTROPY_BINS // 128))
    best = min(candidates, key=lambda bins: _divergence(counts, bins, levels))
    end = float(edges[best])
    return max(settings.low, -end), min(settings.high, end)


def _divergence(counts: np.ndarray, bins: int, levels: int) -> float:
    """KL(P ‖ Q): P the first `bins` with the rest clipped into the last, Q the same in `levels`.

    Both are shares of all values (the divergence of unnormalised measures): with Q normalised on
    its own, as in the source, cutting away nearly everything would cost nothing.
    """
    kept = counts[:bins]
    clipped = kept.copy()
    clipped[-1] += counts[bins:].sum()
    level = np.arange(bins) * levels // bins
    filled = kept > 0
    mass = np.bincount(level, weights=kept, minlength=levels)
    spread = np.bincount(level, weights=filled, minlength=levels)
    quantised = np.where(filled, mass[level] / np.maximum(spread[level], 1), 0.0)
    seen, total = clipped > 0, max(counts.sum(), 1e-300)
    p, q = clipped[seen] / total, np.maximum(quantised[seen], 1e-12 * total) / total
    return float(np.sum(p * np.log(p / q) - p + q))


METHODS: dict[str, Callable[[Histogram, _Settings], tuple[float, float]]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
