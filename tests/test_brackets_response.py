"""A camera curve can be measured from a burst, and the right one makes exposure times true."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.read import read_bracket
from pockethdr.brackets.response import fit_debevec, gamma22
from pockethdr.errors import BracketError

TIMES = [1 / 64, 1 / 16, 1 / 4, 1.0, 4.0]


def burst_of(power: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    radiance = cv2.GaussianBlur(rng.lognormal(-1, 3, (64, 96, 3)), (9, 9), 3)
    exposed = [np.clip(radiance * time, 0, 1) ** (1 / power) for time in TIMES]
    return [np.round(255 * image).astype(np.uint8) for image in exposed]


def test_fitted_curve_is_the_true_one() -> None:
    response = fit_debevec(burst_of(2.2), TIMES)
    codes = np.repeat(np.linspace(0.2, 0.9, 15, dtype=np.float32)[:, None], 3, axis=1)
    np.testing.assert_allclose(response(codes), gamma22(codes), rtol=0.15)
    assert response(np.ones((1, 3), np.float32)).tolist() == [[1, 1, 1]]
    assert (np.diff(response.curves, axis=0) >= 0).all()


def test_frames_in_any_order() -> None:
    frames = burst_of(2.2)
    forward, backward = fit_debevec(frames, TIMES), fit_debevec(frames[::-1], TIMES[::-1])
    np.testing.assert_array_equal(forward.curves, backward.curves)


def test_falling_curve_is_refused() -> None:
    with pytest.raises(BracketError, match="does not rise"):
        fit_debevec([255 - frame for frame in burst_of(2.2)], TIMES)


def test_note9_needs_its_own_curve(shared_brackets: Path) -> None:
    """Linearised by its fitted curve the real phone keeps its exposure ratios; by sRGB it fails."""
    folder = shared_brackets / "note9_garden_left"
    names = ("note9_left_t0.25s.jpg", "note9_left_t0.5s.jpg", "note9_left_t1s.jpg")
    fitted = read_bracket(folder, triplet=names, response="debevec")
    plain = read_bracket(folder, triplet=names, response="srgb")
    assert max(abs(error) for error in stops_off(fitted)) < 0.12
    assert min(abs(error) for error in stops_off(plain)) > 0.3


def stops_off(bracket: Bracket) -> list[float]:
    """Median measured exposure step over the shutter's, in stops, for both pairs of neighbours."""
    errors = []
    for index in (0, 1):
        dark, light = (bracket.frames[index + k].pixels[::8, ::8] for k in (0, 1))
        useful = (light < 0.95) & (dark > 0.08)
        measured = np.median(bracket.response(light)[useful] / bracket.response(dark)[useful])
        errors.append(
            float(np.log2(measured / (bracket.ratios[index + 1] / bracket.ratios[index])))
        )
    return errors
