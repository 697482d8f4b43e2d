"""Colours come out neutral, tones monotone, orientations right."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from pockethdr.brackets.bracket import Camera, mosaic_of, srgb_to_linear
from pockethdr.brackets.exr import read_exr
from pockethdr.brackets.metrics import psnr_mu
from pockethdr.brackets.read import read_bracket
from pockethdr.errors import BracketError
from pockethdr.runtime import demosaic as colour
from pockethdr.runtime.image import image_of, upright

# A plausible phone: rows sum to one, so that white stays white.
CAMERA = Camera(
    wb_gains=(2.0, 1.0, 1.6),
    ccm=np.array([[1.6, -0.4, -0.2], [-0.2, 1.5, -0.3], [0.0, -0.5, 1.5]], np.float32),
)


def demosaic(mosaic, *gains):
    return colour.demosaic(mosaic, *gains).transpose(1, 2, 0)


def camera_to_srgb(rgb, camera):
    planes = np.ascontiguousarray(rgb.transpose(2, 0, 1))
    return colour.camera_to_srgb(planes, camera).transpose(1, 2, 0)


def tone_mapped(rgb, **options):
    return image_of(rgb.transpose(2, 0, 1), "rgb").preview(**options)


def _smooth(height=64, width=80):
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    planes = [rows / height, columns / width, (rows + columns) / (height + width)]
    return np.stack(planes, axis=-1) * 0.8 + 0.1


def test_demosaic_of_smooth_colours_is_nearly_exact():
    image = _smooth()
    rgb = demosaic(mosaic_of(image), (2.0, 1.0, 1.6))
    np.testing.assert_allclose(rgb[4:-4, 4:-4], image[4:-4, 4:-4], atol=2e-3)
    assert np.abs(demosaic(mosaic_of(image[..., ::-1]))[4:-4, 4:-4] - image[4:-4, 4:-4]).max() > 0.1


def test_demosaic_keeps_deep_shadows():
    """16-bit integers would turn a radiance of 1e-6 into nothing."""
    image = np.full((16, 16, 3), 1e-6, np.float32)
    np.testing.assert_allclose(demosaic(mosaic_of(image)), image, rtol=1e-4)


def test_a_real_scene_survives_the_mosaic(shared_brackets):
    """Full-colour ground truth, mosaicked and demosaicked, in linear sRGB."""
    bracket = read_bracket(shared_brackets / "syn_desk_iso1600", domain="raw")
    truth = read_exr(shared_brackets / "syn_desk_iso1600" / "gt_camera_rgb.exr").clip(0, 1)
    expected = camera_to_srgb(truth.copy(), bracket.camera)
    image = image_of(bracket.ground_truth, "raw", bracket.camera, flips=bracket.flips)
    assert psnr_mu(_planes(image.rgb()), _planes(expected)) > 25
    unflipped = image_of(bracket.ground_truth, "raw", bracket.camera)
    assert psnr_mu(_planes(unflipped.rgb()), _planes(expected)) < 20


def _planes(rgb):
    return rgb.transpose(2, 0, 1).clip(0, 1)


def test_grey_is_grey():
    grey = np.linspace(0.01, 0.4, 32, dtype=np.float32)[None, :, None]
    camera = np.ascontiguousarray(np.repeat(grey, 16, 0) / np.float32(CAMERA.wb_gains))
    srgb = camera_to_srgb(camera, CAMERA)
    np.testing.assert_allclose(srgb, np.broadcast_to(np.repeat(grey, 16, 0), srgb.shape), rtol=1e-5)


def test_clipped_light_is_white_and_a_red_lamp_stays_red():
    pixels = np.array([[[1.0, 1.0, 1.0], [0.6, 1.0, 0.75], [1.0, 0.05, 0.05]]], np.float32)
    white, bright, red = camera_to_srgb(pixels, CAMERA)[0]
    assert np.ptp(white) < 1e-4
    assert np.ptp(bright) < 0.1
    assert red[0] > 3 * red[1:].max()


def test_what_a_network_makes_of_clipped_light_is_white_too():
    """It falls a little short of the clip level; the sky turned pink."""
    pixels = np.array([[[0.96, 0.95, 0.97], [0.56, 0.95, 0.7], [0.5, 0.5, 0.5]]], np.float32)
    white, bright, unclipped = camera_to_srgb(pixels, CAMERA)[0]
    assert np.ptp(white) < 0.01
    assert np.ptp(bright) < 0.1
    assert np.ptp(unclipped) > 0.3


def test_swapped_channels_would_be_seen():
    """The check above fails when red and blue gains change places."""
    swapped = Camera(wb_gains=(1.6, 1.0, 2.0), ccm=CAMERA.ccm)
    grey = np.ascontiguousarray(np.full((4, 4, 3), 0.2, np.float32) / np.float32(CAMERA.wb_gains))
    assert np.ptp(camera_to_srgb(grey, swapped)[0, 0]) > 0.05


def _ramp(stops=14):
    levels = np.exp2(np.linspace(-stops, 0, 512, dtype=np.float32))
    return np.repeat(np.repeat(levels[None, :], 256, 0)[..., None], 3, axis=2)


def test_a_wide_ramp_stays_monotone_neutral_and_inside():
    out = tone_mapped(_ramp())
    assert out.dtype == np.uint8
    row = out[128].astype(int)
    assert (np.ptp(row, axis=1) == 0).all()
    assert (np.diff(row[:, 0]) >= -1).all()
    assert row[0, 0] < 40
    assert row[-1, 0] > 220


def test_exposure_brightens():
    ramp = _ramp()
    assert tone_mapped(ramp, exposure=1.0).mean() > tone_mapped(ramp).mean() + 5


def test_scale_does_not_matter():
    scene = np.random.default_rng(0).random((256, 256, 3), dtype=np.float32) ** 4 + 0.01
    difference = tone_mapped(scene).astype(int) - tone_mapped(scene * 0.01).astype(int)
    assert np.abs(difference).max() <= 1


def test_a_strong_edge_has_no_halo():
    """Beside a step of six stops either side stays flat but for a narrow transition."""
    scene = np.full((256, 512, 3), 2.0**-6, np.float32)
    scene[:, 256:] = 1.0
    row = srgb_to_linear(tone_mapped(scene)[128, :, 1] / 255.0)
    dark, bright = row[:250], row[262:]
    assert dark.max() < 1.15 * dark.min()
    assert bright.min() > 0.87 * bright.max()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_and_white_frames_develop(value):
    out = tone_mapped(np.full((32, 32, 3), value, np.float32))
    assert np.ptp(out) == 0


def test_detail_keeps_its_contrast():
    """Fine texture survives the compression of the base that it lies on."""
    scene = _ramp()
    scene[::2] *= 1.2
    row = srgb_to_linear(tone_mapped(scene)[128:130, 256, 1] / 255.0)
    assert 1.1 < row[0] / row[1] < 1.35


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_turns_as_viewers_do(orientation):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = orientation
    wanted = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(upright(pixels, orientation), wanted)


def test_unknown_orientations_are_refused():
    with pytest.raises(BracketError, match="orientation 9"):
        upright(np.zeros((2, 2, 3)), 9)
