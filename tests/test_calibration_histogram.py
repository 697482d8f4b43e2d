"""The histogram's counts are exact, its size fixed, its merge exact in any order."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pockethdr.calibration.histogram import BINS, ZERO_BIN, Histogram

values = arrays.arrays(
    np.float32,
    st.integers(0, 60),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.update(torch.from_numpy(part))
    return histogram


@settings(max_examples=150, deadline=None)
@given(values, values, values)
def test_merge_of_parts_is_the_whole(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    whole = histogram_of(np.concatenate([a, b, c]))
    first, second, third = map(histogram_of, (a, b, c))
    assert first.merged(second).merged(third) == whole
    assert third.merged(first.merged(second)) == whole
    assert second.merged(third).merged(first).to_json() == whole.to_json()
    assert Histogram.from_json(whole.to_json()) == whole


@settings(max_examples=150, deadline=None)
@given(values)
def test_every_value_lies_in_its_bin(sample: np.ndarray) -> None:
    for value in sample:
        one = histogram_of(np.array([value, -1e9, 1e9], np.float32))
        one.counts -= histogram_of(np.array([-1e9, 1e9], np.float32)).counts
        (index,) = np.flatnonzero(one.counts)
        low, high = one.edges()[index : index + 2]
        assert low <= value <= high


def test_bounds_and_count_are_exact() -> None:
    sample = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    histogram = histogram_of(sample)
    assert (histogram.min, histogram.max) == (sample.min(), sample.max())
    assert histogram.count == 1000


def test_a_different_sample_is_a_different_histogram() -> None:
    sample = np.linspace(0.1, 1, 100, dtype=np.float32)
    assert histogram_of(sample) != histogram_of(sample * np.float32(1.1))
    assert histogram_of(sample) != histogram_of(sample, sample[:1])


def test_ends_are_counted_not_lost() -> None:
    histogram = histogram_of(np.array([-1e20, -1e-20, 0.0, -0.0, 1e-20, 1e20], np.float32))
    assert histogram.counts[[0, ZERO_BIN, BINS - 1]].tolist() == [1, 4, 1]


def test_quantiles_match_the_data() -> None:
    sample = np.random.default_rng(1).normal(size=100_000).astype(np.float32)
    histogram = histogram_of(sample)
    for point in (-2.0, -0.5, 0.0, 0.3, 1.7):
        expected = (sample < point).mean()
        assert histogram.inside(-9, point) / 1e5 == pytest.approx(expected, abs=2e-3)
    assert histogram.share_outside(-2, 2) == pytest.approx(0.0455, abs=2e-3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_number_is_refused(bad: float) -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="NaN or infinite"):
        histogram.update(torch.tensor([1.0, bad, 2.0]))
    assert histogram == Histogram()


def test_ten_million_values_take_no_more_room_and_little_time() -> None:
    small, large = histogram_of(np.ones(1, np.float32)), Histogram()
    sample = torch.randn(10_000_000)
    start = time.perf_counter()
    large.update(sample)
    assert time.perf_counter() - start < 3
    assert large.counts.nbytes == small.counts.nbytes
    assert large.count == 10_000_000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_counted_as_float32(dtype: torch.dtype) -> None:
    sample = torch.randn(100).to(dtype)
    other = Histogram()
    other.update(sample)
    assert other == histogram_of(sample.float().numpy())


def test_a_damaged_run_is_refused() -> None:
    with pytest.raises(ValueError, match="outside the grid"):
        Histogram.from_json({"bounds": [0, 1], "runs": [[BINS - 1, 1, 1]]})
