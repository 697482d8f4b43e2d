"""The look of a phone's photographs: colour, noise reduction, sharpening, drift."""

from dataclasses import replace

import numpy as np
import pytest

from pockethdr.brackets.bracket import LUMINANCE
from pockethdr.brackets.simulate import SimulationSettings, simulate

_PLAIN = SimulationSettings(
    domain="rgb", noise=(1e-6, 1e-9), shake_px=0, shake_deg=0, bit_depth=14, brightness=0.2
)


def _patches(colour: tuple[float, float, float]) -> np.ndarray:
    """Left half grey, right half of `colour`; both of one luminance."""
    scene = np.ones((64, 64, 3), np.float32)
    scene[:, 32:] = np.array(colour) / (np.array(colour) @ LUMINANCE)
    return scene


def _mid(settings: SimulationSettings, scene: np.ndarray) -> np.ndarray:
    return np.asarray(simulate(scene, settings, seed=2).frames[1].pixels)


def test_saturation_moves_colours_from_grey_in_frames_and_truth_alike() -> None:
    scene = _patches((1.0, 0.8, 0.7))
    plain, vivid = (simulate(scene, replace(_PLAIN, saturation=s), seed=2) for s in (1.0, 1.5))
    for found, wanted in (
        (b.inputs()[1][0, 3:, 8:-8, 40:56], b.ground_truth[:, 8:-8, 40:56]) for b in (plain, vivid)
    ):
        np.testing.assert_allclose(found.mean((1, 2)), wanted.mean((1, 2)), rtol=0.03)
    colours = [b.ground_truth[:, 8:-8, 40:56].mean((1, 2)) for b in (plain, vivid)]
    greys = [c @ LUMINANCE for c in colours]
    assert greys[0] == pytest.approx(greys[1], rel=1e-3)
    np.testing.assert_allclose(colours[1] - greys[1], 1.5 * (colours[0] - greys[0]), rtol=1e-2)


def test_noise_reduction_smooths_colour_more_than_light() -> None:
    noisy = replace(_PLAIN, noise=(3e-3, 1e-5))
    before, after = (
        _mid(replace(noisy, denoise=d), _patches((1, 1, 1)))[8:-8, 8:-8] for d in (0.0, 0.8)
    )
    light = [float((x @ LUMINANCE).std()) for x in (before, after)]
    colour = [float((x[..., 0] - x @ LUMINANCE).std()) for x in (before, after)]
    assert light[1] < 0.8 * light[0]
    assert colour[1] / colour[0] < light[1] / light[0]


def test_noise_reduction_takes_colour_out_of_the_dark() -> None:
    dark = replace(_PLAIN, brightness=0.002)
    before, after = (
        _mid(replace(dark, denoise=d), _patches((1.0, 0.6, 0.4)))[8:-8, 40:56] for d in (0.0, 1.0)
    )
    spread = [float(np.ptp(x.mean((0, 1)))) for x in (before, after)]
    assert spread[1] < 0.5 * spread[0]


def test_sharpening_overshoots_at_edges() -> None:
    scene = np.ones((64, 64, 3), np.float32)
    scene[:, 32:] = 2.0
    plain, sharp = (_mid(replace(_PLAIN, sharpen=s), scene) for s in (0.0, 0.8))
    assert sharp.max() > plain.max() + 0.02
    np.testing.assert_allclose(sharp[8:-8, 8:20], plain[8:-8, 8:20], atol=2 / 255)


def test_each_frame_drifts_its_own_way() -> None:
    settings = replace(_PLAIN, drift=0.05)
    shots = simulate(_patches((1, 1, 1)), settings, seed=2).inputs()
    means = [x[0, 3:, 8:-8, 8:-8].mean((1, 2)) for x in shots]
    assert not np.allclose(means[0], means[1], rtol=0.01)
    still = simulate(_patches((1, 1, 1)), _PLAIN, seed=2).inputs()
    means = [x[0, 3:, 8:-8, 8:-8].mean((1, 2)) for x in still[:2]]
    np.testing.assert_allclose(means[0], means[1], rtol=0.01)
