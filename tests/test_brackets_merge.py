"""The classical merge recovers radiance that no single frame holds."""

from __future__ import annotations

import numpy as np
import pytest

from pockethdr.brackets.bracket import Bracket, Frame, linear_to_srgb, pack
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.metrics import psnr_mu

RATIOS = (1.0, 4.0, 16.0)


def bracket_of(radiance: np.ndarray, domain: str, noise: float = 0.0) -> Bracket:
    rng = np.random.default_rng(1)
    frames = []
    for ratio in RATIOS:
        linear = np.clip(radiance * ratio + rng.normal(0, noise, radiance.shape), 0, 1)
        pixels = linear if domain == "raw" else linear_to_srgb(linear)
        frames.append(Frame(None, pixels.astype(np.float32), ratio / 100))
    return Bracket("made", domain, (frames[0], frames[1], frames[2]), RATIOS)


@pytest.fixture
def radiance() -> np.ndarray:
    return np.geomspace(1e-4, 1.2, 16 * 24, dtype=np.float32).reshape(16, 24)


def test_raw_merge_is_exact_without_noise(radiance: np.ndarray) -> None:
    merged = weighted_merge(bracket_of(radiance, "raw"))
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, np.clip(pack(radiance), 0, 1), rtol=1e-5)


def test_rgb_merge_is_exact_without_noise(radiance: np.ndarray) -> None:
    image = np.stack([radiance, radiance[::-1], radiance.T.reshape(16, 24)], axis=-1)
    merged = weighted_merge(bracket_of(image, "rgb"))
    assert merged.shape == (3, 16, 24)
    np.testing.assert_allclose(merged, np.clip(image.transpose(2, 0, 1), 0, 1), rtol=1e-4)


def test_all_clipped_takes_the_short_frame_and_black_stays_black() -> None:
    radiance = np.zeros((2, 4), np.float32)
    radiance[:, 2:] = 3.0
    merged = weighted_merge(bracket_of(radiance, "raw"))
    np.testing.assert_array_equal(merged[:, 0, 0], 0)
    np.testing.assert_array_equal(merged[:, 0, 1], 1)


def test_merge_beats_every_single_frame_under_noise(radiance: np.ndarray) -> None:
    bracket = bracket_of(radiance, "raw", noise=0.004)
    truth = np.clip(pack(radiance), 0, 1)
    single = [
        psnr_mu(pack(frame.pixels) / ratio, truth)
        for frame, ratio in zip(bracket.frames, RATIOS, strict=True)
    ]
    assert psnr_mu(weighted_merge(bracket), truth) > max(single) + 1


def test_wrong_ratio_is_noticed(radiance: np.ndarray) -> None:
    """The gate fails on a broken input: exposure ratios that are not those of the frames."""
    good = bracket_of(radiance, "raw")
    bad = Bracket("bad", "raw", good.frames, (1.0, 5.0, 16.0))
    truth = np.clip(pack(radiance), 0, 1)
    assert psnr_mu(weighted_merge(bad), truth) < 50 < 80 < psnr_mu(weighted_merge(good), truth)
