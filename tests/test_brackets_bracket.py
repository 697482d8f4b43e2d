"""The bracket type: packing, flips, network inputs, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pockethdr.brackets.bracket import (
    FLIPS,
    Bracket,
    Camera,
    Frame,
    flip,
    flips_of,
    linear_to_srgb,
    mosaic_of,
    pack,
    srgb_to_linear,
    unpack,
)
from pockethdr.errors import BracketError


def _raw(height: int = 6, width: int = 8, ratios: tuple[float, ...] = (1.0, 4.0, 16.0)) -> Bracket:
    rng = np.random.default_rng(0)
    frames = tuple(Frame(None, rng.random((height, width), dtype=np.float32)) for _ in range(3))
    return Bracket("b", "raw", frames, ratios, Camera())  # type: ignore[arg-type]


def test_pack_takes_rggb_sites_and_unpack_undoes_it() -> None:
    mosaic = np.arange(24, dtype=np.float32).reshape(4, 6)
    planes = pack(mosaic)
    assert planes[:, 0, 0].tolist() == [0, 1, 6, 7]
    assert np.array_equal(unpack(planes), mosaic)


@pytest.mark.parametrize("cfa", FLIPS)
def test_flips_bring_red_to_the_top_left(cfa: str) -> None:
    colours = np.array([["RGB".index(c) for c in cfa[:2]], ["RGB".index(c) for c in cfa[2:]]])
    sensor = np.tile(colours, (3, 4))
    assert pack(flip(sensor, flips_of(cfa)))[:, 1, 1].tolist() == [0, 1, 1, 2]
    assert np.array_equal(flip(flip(sensor, flips_of(cfa)), flips_of(cfa)), sensor)


def test_raw_inputs_are_packed_then_divided_by_the_ratio() -> None:
    bracket = _raw()
    for frame, given, ratio in zip(bracket.frames, bracket.inputs(), bracket.ratios, strict=True):
        assert given.shape == (1, 8, 3, 4)
        assert given.dtype == np.float32
        assert np.array_equal(given[0, :4], pack(frame.pixels))
        np.testing.assert_allclose(given[0, 4:] * ratio, given[0, :4], rtol=1e-6)
    assert bracket.size() == (3, 4)


def test_rgb_inputs_are_encoded_then_linear() -> None:
    pixels = np.random.default_rng(1).random((4, 5, 3), dtype=np.float32)
    frame = Frame(None, pixels)
    bracket = Bracket("b", "rgb", (frame, frame, frame), (1.0, 2.0, 4.0))
    given = bracket.inputs()[2]
    assert given.shape == (1, 6, 4, 5)
    np.testing.assert_allclose(given[0, 3:], srgb_to_linear(pixels).transpose(2, 0, 1) / 4)


def test_srgb_coding_round_trips() -> None:
    x = np.linspace(0, 1, 1001, dtype=np.float32)
    np.testing.assert_allclose(srgb_to_linear(linear_to_srgb(x)), x, atol=1e-6)


def test_mosaic_of_samples_each_colour_at_its_site() -> None:
    image = np.random.default_rng(2).random((4, 4, 3), dtype=np.float32)
    planes = pack(mosaic_of(image))
    assert np.array_equal(planes[0], image[0::2, 0::2, 0])
    assert np.array_equal(planes[2], image[1::2, 0::2, 1])
    assert np.array_equal(planes[3], image[1::2, 1::2, 2])


@pytest.mark.parametrize(
    "ratios", [(1.0, 1.0, 4.0), (2.0, 4.0, 8.0), (1.0, 4.0), (1.0, 4.0, float("nan"))]
)
def test_ratios_must_rise_from_one(ratios: tuple[float, ...]) -> None:
    with pytest.raises(BracketError, match="ratios"):
        _raw(ratios=ratios)


def test_odd_mosaics_are_refused() -> None:
    with pytest.raises(BracketError, match="even"):
        _raw(height=5)


def test_frames_of_different_sizes_are_refused() -> None:
    good = _raw()
    with pytest.raises(BracketError, match="different sizes"):
        replace(good, frames=(good.frames[0], good.frames[1], _raw(8).frames[2]))


def test_ground_truth_of_another_shape_is_refused() -> None:
    with pytest.raises(BracketError, match="ground truth"):
        replace(_raw(), ground_truth=np.zeros((3, 3, 4), np.float32))


def test_camera_levels_are_checked() -> None:
    with pytest.raises(BracketError, match="white level"):
        Camera(black_level=2000, white_level=1023)
    with pytest.raises(BracketError, match="pattern"):
        Camera(cfa="RGBW")


@pytest.mark.parametrize("gain", [np.nan, np.inf, -2.0, 0.0, 1e-30, 1e30])
def test_gains_that_no_camera_has(gain: float) -> None:
    with pytest.raises(BracketError, match="white balance gains"):
        Camera(wb_gains=(1.0, gain, 1.0))


@pytest.mark.parametrize("ccm", [np.full((3, 3), np.inf), np.ones((3, 3)), np.zeros((3, 3))])
def test_colour_matrices_that_lose_colours(ccm: np.ndarray) -> None:
    with pytest.raises(BracketError, match="colour matrix"):
        Camera(ccm=ccm)


@pytest.mark.parametrize("noise", [(np.nan, 0.0), (-1e-3, 0.0), (0.0, np.inf)])
def test_noise_that_is_none(noise: tuple[float, float]) -> None:
    with pytest.raises(BracketError, match="noise profile"):
        Camera(noise=noise)
