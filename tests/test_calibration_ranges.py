"""Each method does what its source says, on distributions whose answer is known."""

import numpy as np
import pytest
import torch

from pockethdr.calibration.histogram import Histogram
from pockethdr.calibration.ranges import BITS, KEPT, METHODS, Range, range_of
from pockethdr.errors import PocketError

RANDOM = np.random.default_rng(7)


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.update(torch.from_numpy(values.astype(np.float32)))
    return histogram


def quantised(values: np.ndarray, chosen: Range, levels: int) -> np.ndarray:
    step = (chosen.high - chosen.low) / levels
    return np.clip(np.round(values / step) * step, chosen.low, chosen.high)


def test_minmax_is_exact() -> None:
    values = RANDOM.normal(size=1000).astype(np.float32)
    assert range_of(histogram_of(values), "minmax") == Range(values.min(), values.max())


@pytest.mark.parametrize("method", METHODS)
def test_small_values_keep_a_range_of_their_own(method: str) -> None:
    """What lies below 2^-16 may be scaled up behind; as 0..1 it would be all zero."""
    values = RANDOM.uniform(0, 1e-5, 1000).astype(np.float32)
    assert range_of(histogram_of(values), method) == Range(0.0, values.max())
    assert range_of(histogram_of(values * 1e-4), method) == Range(0.0, 1.0), "rounding of floats"


def test_symmetric_is_symmetric() -> None:
    for method in METHODS:
        chosen = range_of(histogram_of(RANDOM.normal(1, 1, 5000)), method, symmetric=True)
        assert chosen.low == -chosen.high


def test_percentile_matches_numpy() -> None:
    values = RANDOM.normal(size=1_000_000)
    chosen = range_of(histogram_of(values), "percentile")
    assert chosen.high == pytest.approx(np.quantile(values, KEPT), rel=0.01)
    assert chosen.low == pytest.approx(np.quantile(values, 1 - KEPT), rel=0.01)
    both = range_of(histogram_of(values), "percentile", symmetric=True)
    assert both.high == pytest.approx(np.quantile(np.abs(values), KEPT), rel=0.01)


def test_percentile_does_not_cut_into_clipped_pixels() -> None:
    dark = RANDOM.uniform(0, 0.05, 100_000)
    many, few = (np.concatenate([dark, np.ones(count)]) for count in (100, 5))
    assert range_of(histogram_of(many), "percentile").high == 1.0
    assert range_of(histogram_of(few), "percentile").high < 0.06


@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_is_near_the_best_found_by_brute_force(symmetric: bool) -> None:
    values = RANDOM.laplace(size=50_000) + (0.0 if symmetric else 0.7)
    levels = 2**BITS - (2 if symmetric else 1)
    chosen = range_of(histogram_of(values), "mse", symmetric=symmetric)
    error = np.mean((quantised(values, chosen, levels) - values) ** 2)
    top, bottom = np.abs(values).max(), values.min()
    rivals = [
        Range(-top * a, top * a) if symmetric else Range(bottom * b, values.max() * a)
        for a in np.linspace(0.1, 1, 19)
        for b in (np.linspace(0.1, 1, 10) if not symmetric else [1.0])
    ]
    best = min(np.mean((quantised(values, rival, levels) - values) ** 2) for rival in rivals)
    assert error <= best * 1.05


def test_mse_cuts_what_is_rare_enough() -> None:
    values = RANDOM.normal(size=1_000_000)
    values[0] = 30.0
    histogram = histogram_of(values)
    errors = {
        method: np.mean((quantised(values, range_of(histogram, method), 2**BITS - 1) - values) ** 2)
        for method in ("mse", "minmax")
    }
    assert errors["mse"] < 0.7 * errors["minmax"]


def test_mse_keeps_highlights_that_clip_at_one_value() -> None:
    """A tenth of the values is exactly 1.0, a bin without width: cutting it must cost."""
    values = np.concatenate([RANDOM.uniform(0, 0.05, 9000), np.ones(1000)])
    assert range_of(histogram_of(values), "mse").high == pytest.approx(1.0)
    mirrored = range_of(histogram_of(-values), "mse")
    assert mirrored.low == pytest.approx(-1.0)


def test_entropy_cuts_a_far_outlier_and_keeps_a_uniform() -> None:
    normal = RANDOM.normal(size=100_000)
    chosen = range_of(histogram_of(np.append(normal, 50.0)), "entropy")
    assert 2.5 < chosen.high < 12
    uniform = range_of(histogram_of(RANDOM.uniform(0, 1, 100_000)), "entropy")
    assert uniform.high > 0.95
    assert uniform.low == 0


def test_entropy_does_not_cut_away_a_narrow_peak() -> None:
    """The outputs of a sigmoid: all values between 0.5 and 0.6, one at 0.45."""
    values = np.append(RANDOM.uniform(0.5, 0.6, 10_000), 0.45)
    assert range_of(histogram_of(values), "entropy").high > 0.58


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "values",
    [
        np.zeros(10),
        np.full(10, 3.0),
        np.full(10, -1.0),
        np.full(10, 1e-12),
        np.array([1e9, -1e9]),
        np.array([2.0**-24]),
        np.array([0.5]),
        np.array([-2.0, 1.0]),
        np.array([]),
    ],
    ids=str,
)
def test_degenerate_tensors_have_a_usable_range(
    values: np.ndarray, method: str, symmetric: bool
) -> None:
    chosen = range_of(histogram_of(values), method, symmetric=symmetric)
    assert chosen.low <= 0 <= chosen.high
    assert np.isfinite([chosen.low, chosen.high]).all()
    assert chosen.high - chosen.low > 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_is_not_clipped(method: str) -> None:
    assert range_of(histogram_of(np.full(100, 3.0)), method).high == pytest.approx(3.0, rel=0.02)


def test_clipped_share() -> None:
    histogram = histogram_of(np.array([-1.0] * 10 + [0.5] * 80 + [1.0] * 10))
    assert histogram.share_outside(-1, 1) == 0
    assert histogram.share_outside(-0.9, 1) == pytest.approx(0.1)
    assert histogram.share_outside(-1, 0.9) == pytest.approx(0.1)


def test_wrong_settings_are_named() -> None:
    histogram = histogram_of(np.ones(3))
    with pytest.raises(PocketError, match="unknown calibration method 'max'"):
        range_of(histogram, "max")
    with pytest.raises(ValueError, match="must include zero"):
        Range(0.5, 1.0)


def test_mse_counts_below_zero_what_a_leaky_relu_hands_on() -> None:
    values = np.concatenate([RANDOM.uniform(0, 1, 9000), RANDOM.uniform(-30, 0, 1000)])
    slope = 0.01

    def error(chosen: Range) -> float:
        left = quantised(values, chosen, 2**BITS - 1) - values
        return float(np.mean(np.square(np.where(values < 0, slope * left, left))))

    whole, seen = (range_of(histogram_of(values), "mse", below=below) for below in (1.0, slope))
    rivals = [Range(low, high) for low in np.linspace(-30, 0, 61) for high in (0.9, 1.0)]
    assert error(seen) <= 1.05 * min(map(error, rivals))
    assert error(seen) < 0.6 * error(whole)
    assert range_of(histogram_of(values), "mse", below=0.0).low == pytest.approx(0.0, abs=0.4)
