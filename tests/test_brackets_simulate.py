"""Simulated brackets: noise that measures as modelled, geometry, clipping, files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pockethdr.brackets.bracket import FLIPS, Bracket, pack
from pockethdr.brackets.metrics import psnr_mu
from pockethdr.brackets.motion import _Thing
from pockethdr.brackets.noise import brooks_noise, noise_of, noisy, phones
from pockethdr.brackets.read import read_bracket
from pockethdr.brackets.simulate import SimulationSettings, shading_gain, simulate, write_bracket
from pockethdr.errors import BracketError, PocketError

_STILL = SimulationSettings(shake_px=0.0, shake_deg=0.0)


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A smooth coloured scene with texture, a lamp and a shadow: 160×192×3."""
    rng = np.random.default_rng(7)
    coarse = cv2.resize(rng.uniform(0.2, 1, (10, 12, 3)), (192, 160), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.uniform(0.7, 1.3, (80, 96)), (192, 160), interpolation=cv2.INTER_LINEAR)
    image = np.maximum(coarse, 0.05) * fine[..., None]
    image[20:40, 30:50] *= 200
    image[100:, 120:] *= 0.03
    return image.astype(np.float32)


@pytest.mark.parametrize("level", [0.0005, 0.02, 0.5])
@pytest.mark.parametrize(
    ("phone", "iso"), [("pixel", 100), ("nexus6", 3200), ("oppo_reno10x", 1600)]
)
def test_noise_variance_is_the_models_within_two_percent(
    phone: str, iso: float, level: float
) -> None:
    s, o = noise_of(phone, iso)
    x = noisy(np.full((1000, 1000), level, np.float32), (s, o), np.random.default_rng(0))
    assert x.var() / (s * level + o) == pytest.approx(1, abs=0.02)
    assert x.mean() == pytest.approx(level, abs=4 * np.sqrt((s * level + o) / x.size))


def test_noise_of_a_whole_bracket_is_the_models() -> None:
    settings = replace(_STILL, bit_depth=12, iso=3200, ratio=2.0, brightness=0.2)
    bracket = simulate(np.ones((400, 400, 3)), settings, seed=1)
    assert bracket.camera is not None
    assert bracket.camera.noise is not None
    s, o = bracket.camera.noise
    assert bracket.ground_truth is not None
    for frame, ratio in zip(bracket.frames, bracket.ratios, strict=True):
        for plane, clean in zip(pack(frame.pixels), bracket.ground_truth * ratio, strict=True):
            step = 1 / (bracket.camera.white_level - bracket.camera.black_level)
            model = s * float(clean.mean()) + o + step**2 / 12
            assert plane.var() / model == pytest.approx(1, abs=0.02)


def test_photon_noise_is_skewed_in_the_dark() -> None:
    """Poisson, not Gaussian, where it matters: skewness 1/√λ at λ = 1 electron."""
    s = 1e-3
    x = noisy(np.full(400_000, s, np.float32), (s, 0.0), np.random.default_rng(0))
    skew = float((((x - x.mean()) / x.std()) ** 3).mean())
    assert skew == pytest.approx(1.0, abs=0.05)


def test_profiles_are_their_tables() -> None:
    assert noise_of("pixel", 1600) == pytest.approx((3.28e-3, 4.70e-5))
    assert noise_of("oppo_reno10x", 1600) == pytest.approx((1.0093e-3, 3.2397e-6), rel=1e-3)
    for phone in phones():
        quiet, loud = noise_of(phone, 100), noise_of(phone, 800)
        assert loud[0] > quiet[0]
    with pytest.raises(BracketError, match="no noise profile"):
        noise_of("fairphone", 100)
    s, o = zip(*(brooks_noise(np.random.default_rng(n)) for n in range(200)), strict=True)
    residual = np.log(o) - 2.18 * np.log(s) - 1.20
    assert abs(residual.mean()) < 0.06
    assert residual.std() == pytest.approx(0.26, abs=0.04)


def test_same_seed_same_bracket(scene: np.ndarray) -> None:
    first, again, other = (simulate(scene, SimulationSettings(), seed=n) for n in (3, 3, 4))
    for a, b, c in zip(first.frames, again.frames, other.frames, strict=True):
        assert np.array_equal(a.pixels, b.pixels)
        assert not np.array_equal(a.pixels, c.pixels)


def test_still_frames_agree_with_the_ground_truth_where_they_do_not_clip(
    scene: np.ndarray,
) -> None:
    bracket = simulate(scene, replace(_STILL, noise=(1e-6, 1e-9), bit_depth=12), seed=0)
    truth = bracket.ground_truth
    assert truth is not None
    for frame, ratio in zip(bracket.frames, bracket.ratios, strict=True):
        pixels = pack(frame.pixels)
        inside = (pixels > 0.02) & (pixels < 0.98)
        assert inside.any()
        np.testing.assert_allclose(pixels[inside] / ratio, truth[inside], rtol=0.02, atol=1e-3)
    assert (bracket.frames[2].pixels == 1).mean() > 0.01
    assert bracket.frames[2].pixels.max() == 1
    swapped = truth[[3, 1, 2, 0]]
    aligned = bracket.inputs()[0][0, 4:]
    assert psnr_mu(aligned, truth) > psnr_mu(aligned, swapped) + 10


def test_brightness_and_ratios_are_as_asked(scene: np.ndarray) -> None:
    bracket = simulate(scene, replace(_STILL, brightness=0.05, ratio=(3.0, 15.0)), seed=0)
    green = np.maximum(pack(bracket.frames[1].pixels)[1], 1e-4)
    assert np.exp(np.log(green).mean()) == pytest.approx(0.05, rel=0.15)
    assert bracket.ratios == (1.0, 3.0, 15.0)
    times = [frame.exposure_s for frame in bracket.frames]
    assert times[2] / times[0] == pytest.approx(15)  # type: ignore[operator]


def test_shake_moves_short_and_long_but_not_mid(scene: np.ndarray) -> None:
    quiet = replace(_STILL, noise=(1e-6, 1e-9), brightness=0.02, ratio=2.0)
    still = simulate(scene, quiet, seed=0)
    shaken = simulate(scene, replace(quiet, shake_px=8.0), seed=0)
    differences = [
        float(np.abs(a.pixels - b.pixels).mean() / a.pixels.mean())
        for a, b in zip(still.frames, shaken.frames, strict=True)
    ]
    assert differences[1] < 0.01 < 0.05 < min(differences[0], differences[2])


def test_an_object_moves_and_blurs_with_exposure(scene: np.ndarray) -> None:
    quiet = replace(_STILL, noise=(1e-6, 1e-9), ratio=2.0, brightness=0.05, object_size=0.2)
    still = simulate(scene, replace(quiet, object_px=0.001), seed=2)
    moved = simulate(scene, replace(quiet, object_px=30.0), seed=2)
    assert still.ground_truth is not None
    np.testing.assert_array_equal(still.ground_truth, moved.ground_truth)
    changed = [
        float((np.abs(a.pixels - b.pixels) > 0.1 * a.pixels.mean()).mean())
        for a, b in zip(still.frames, moved.frames, strict=True)
    ]
    assert min(changed[0], changed[2]) > 2 * changed[1] > 0
    assert changed[0] > 0.02


def test_the_noise_of_a_shading_lens_is_the_models() -> None:
    """var(x) = gain·S·x + gain²·(O + quantisation), at the corners and in the middle."""
    settings = replace(_STILL, bit_depth=12, iso=800, ratio=2.0, brightness=0.4, shading=1.0)
    flat = simulate(np.ones((1200, 1200, 3)), settings, seed=1)
    assert flat.camera is not None
    assert flat.camera.noise is not None
    assert flat.ground_truth is not None
    s, o = flat.camera.noise
    step = 1 / (flat.camera.white_level - flat.camera.black_level)
    gain = pack(shading_gain((1200, 1200), 1.0, (0.0, 0.0, 1.0, 1.0)))
    assert gain.max() == pytest.approx(2, abs=0.01)
    for plane, clean, gains in zip(
        pack(flat.frames[1].pixels), 2 * flat.ground_truth, gain, strict=True
    ):
        error = (plane - clean) ** 2 / (gains * s * clean + gains**2 * (o + step**2 / 12))
        for low, high in ((1.0, 1.2), (1.5, 2.0)):
            assert error[(gains >= low) & (gains < high)].mean() == pytest.approx(1, abs=0.02)


def test_a_patch_of_a_sensor_is_shaded_as_its_place() -> None:
    whole = shading_gain((100, 200), 0.8, (0.0, 0.0, 1.0, 1.0))
    part = shading_gain((20, 40), 0.8, (0.5, 0.25, 0.2, 0.2))
    assert whole is not None
    np.testing.assert_allclose(part, whole[50:70, 50:90], rtol=1e-6)
    assert shading_gain((20, 40), 0.0, (0.0, 0.0, 1.0, 1.0)) is None


def test_several_objects_move_each_its_own_way_and_hide_what_is_behind(scene: np.ndarray) -> None:
    quiet = replace(_STILL, noise=(1e-6, 1e-9), ratio=2.0, brightness=0.05, object_px=60.0)
    one = simulate(scene, quiet, seed=4)
    three = simulate(scene, replace(quiet, objects=3), seed=4)
    assert one.ground_truth is not None
    assert three.ground_truth is not None
    added = np.abs(one.ground_truth - three.ground_truth).max(axis=0) > 1e-4
    assert 0.01 < added.mean() < 0.5
    layers = [three.frames[n].pixels / three.ratios[n] for n in (0, 1)]
    moved = np.abs(layers[0] - layers[1]) > 0.1 * layers[1].mean()
    alone = np.abs(one.frames[0].pixels - one.frames[1].pixels / 2) > 0.1 * layers[1].mean()
    assert moved.mean() > 1.2 * alone.mean()


def test_light_never_turns_negative_behind_a_blurred_object() -> None:
    """The sum of a blur's weights may round to a hair over one, and alpha with it."""
    sun = np.full((40, 40, 3), 1e6, np.float32)
    black = np.zeros((40, 40, 4), np.float32)
    black[..., 3] = 1
    diagonal = _Thing(black, (0, 0), (5 * np.sqrt(0.5), 5 * np.sqrt(0.5)))  # five pixels
    assert diagonal.over(sun, 0.0, 1.0).min() >= 0


@pytest.mark.parametrize("cfa", FLIPS)
def test_files_read_back_as_the_same_bracket(cfa: str, scene: np.ndarray, tmp_path: Path) -> None:
    bracket = simulate(scene, SimulationSettings(cfa=cfa, bit_depth=12), seed=1, name="scene")
    write_bracket(bracket, tmp_path / "scene")
    again = read_bracket(tmp_path / "scene")
    for a, b in zip(bracket.inputs(), again.inputs(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert again.camera is not None
    assert (again.camera.cfa, again.flips) == (cfa, bracket.flips)
    assert again.ground_truth is not None
    np.testing.assert_allclose(again.ground_truth, bracket.ground_truth, rtol=1e-3, atol=1e-6)


def test_rgb_files_read_back_as_the_same_bracket(scene: np.ndarray, tmp_path: Path) -> None:
    settings = SimulationSettings(domain="rgb", jpeg_quality=90, contrast=0.2, curve=1.1)
    bracket = simulate(scene, settings, seed=1, name="scene")
    write_bracket(bracket, tmp_path / "scene")
    again = read_bracket(tmp_path / "scene")
    assert again.domain == "rgb"
    for a, b in zip(bracket.inputs(), again.inputs(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert again.ground_truth is not None
    np.testing.assert_allclose(again.ground_truth, bracket.ground_truth, rtol=1e-3, atol=1e-6)


def test_rgb_frames_are_eight_bit_and_follow_their_curve(scene: np.ndarray) -> None:
    settings = replace(_STILL, domain="rgb", noise=(1e-6, 1e-9), bit_depth=14, brightness=0.1)
    bracket = simulate(scene, settings, seed=0)
    codes = bracket.frames[1].pixels * 255
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-3)
    truth = bracket.ground_truth
    assert truth is not None
    mid = bracket.inputs()[1][0]
    inside = (mid[:3] > 0.2) & (mid[:3] < 0.95)
    ratio = mid[3:][inside] / truth[inside]
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    bent = simulate(scene, replace(settings, curve=1.3), seed=0)
    assert bent.frames[1].pixels.mean() < bracket.frames[1].pixels.mean() - 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"iso": -5.0}, "ISO: -5"),
        ({"iso": math.nan}, "ISO: nan"),
        ({"ratio": 0.0}, "ratio of 0"),
        ({"ratio": 1.0}, "ratio of 1"),
        ({"ratio": math.nan}, "ratio of nan"),
        ({"ratio": 1e200}, "ratio of 1e\\+200"),
        ({"ratio": (4.0, 2.0)}, r"ratio of \(4.0, 2.0\)"),
        ({"shake_px": -3.0}, "shake in pixels: -3"),
        ({"object_px": 1e9}, "motion in pixels: 1e\\+09"),
        ({"objects": -1}, "number of objects: -1"),
        ({"shading": math.inf}, "shading: inf"),
    ],
)
def test_numbers_that_no_camera_has(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BracketError, match=message) as caught:
        SimulationSettings(**settings)
    assert caught.value.expected


def test_the_largest_numbers_still_make_a_bracket(scene: np.ndarray) -> None:
    settings = SimulationSettings(iso=1e6, shake_px=1000, object_px=1000, shading=10, ratio=100.0)
    assert np.isfinite(simulate(scene, settings, seed=0).frames[2].pixels).all()


def test_nan_is_not_written(scene: np.ndarray, tmp_path: Path) -> None:
    """JSON has no word for it, and no reader would take the bracket."""
    bracket = simulate(scene, _STILL, seed=0)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_bracket(bracket, tmp_path / "new", facts={"psnr": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_writing_over_files_is_refused_and_leaves_them(scene: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "note").write_text("mine")
    with pytest.raises(PocketError, match="holds files"):
        write_bracket(simulate(scene, SimulationSettings(), seed=0), tmp_path / "kept")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["note"]


def _sample() -> Path:
    return Path(__file__).resolve().parents[1] / "brackets" / "sample"


def test_the_sample_is_small_and_a_photograph() -> None:
    bracket: Bracket = read_bracket(_sample())
    assert sum(p.stat().st_size for p in _sample().iterdir()) < 3_000_000
    assert bracket.size() == (240, 320)
    assert bracket.ratios == pytest.approx((1.0, 4.0, 16.0))
    assert bracket.ground_truth is not None
    assert 0.01 < bracket.ground_truth.mean() < 0.3
    assert "CC0" in (_sample() / "LICENSE.txt").read_text()
    assert "made_by" in json.loads((_sample() / "metadata.json").read_text())


def test_the_sample_is_made_by_its_command(shared_brackets: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    hdr = shared_brackets / "hdrgt_polyhaven" / "interior.exr"
    command = [sys.executable, "-m", "pockethdr.brackets.simulate", str(hdr), "--sample"]
    subprocess.run([*command, str(tmp_path / "sample")], check=True)
    for name in ("short.png", "mid.png", "long.png"):
        assert (tmp_path / "sample" / name).read_bytes() == (_sample() / name).read_bytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_image_that_is_no_light_makes_no_bracket(bad: float) -> None:
    hdr = np.full((96, 96, 3), 0.2, np.float32)
    hdr[40, 40, 1] = bad
    with pytest.raises(BracketError, match="sun: the HDR image holds NaN or infinity"):
        simulate(hdr, SimulationSettings(), seed=0, name="sun")


@pytest.mark.parametrize("size", [(1, 1), (3, 64), (64, 35)])
def test_an_image_too_small_to_photograph(size: tuple[int, int]) -> None:
    with pytest.raises(BracketError, match=f"of {size[0]}×{size[1]} pixels"):
        simulate(np.ones((*size, 3)), SimulationSettings(margin=16), seed=0)
