"""What is written reads back, whole or not at all."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from pockethdr.brackets.exr import read_exr
from pockethdr.errors import PocketError
from pockethdr.runtime.develop import upright
from pockethdr.runtime.fuse import HDRImage
from pockethdr.runtime.write import (
    HDR_FORMATS,
    PREVIEW_FORMATS,
    check_suffixes,
    save_hdr,
    save_preview,
)


def _image(orientation=6, gain=1.0):
    pixels = np.random.default_rng(0).random((3, 40, 30), dtype=np.float32) * gain
    return HDRImage(pixels, "rgb", None, orientation, (False, False), "none", 1)


def _expected(image):
    return upright(image.rgb(), image.orientation)


def test_exr_is_linear_and_upright(tmp_path):
    image = _image()
    said = save_hdr(image, tmp_path / "a.exr")
    np.testing.assert_allclose(read_exr(tmp_path / "a.exr"), _expected(image), rtol=1e-3)
    assert "turned upright (EXIF orientation 6)" in said


def test_radiance_reads_back(tmp_path):
    image = _image(gain=8.0)
    save_hdr(image, tmp_path / "a.hdr")
    back = cv2.imread(str(tmp_path / "a.hdr"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    np.testing.assert_allclose(back, _expected(image), atol=8 / 128)
    assert np.abs(back - _expected(image)).mean() < 0.02


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_tiff_says_its_scale(tmp_path, gain):
    image = _image(orientation=1, gain=gain)
    said = save_hdr(image, tmp_path / "a.tif")
    scale = {1.0: 1, 3.0: 4}[gain]
    assert f"65535 = {scale} ×" in said
    assert "upright" not in said
    back = cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert back.dtype == np.uint16
    np.testing.assert_allclose(back / 65535 * scale, _expected(image), atol=scale / 65535)


@pytest.mark.parametrize("suffix", PREVIEW_FORMATS)
def test_previews_are_upright_and_say_so_to_viewers(tmp_path, suffix):
    image = _image()
    save_preview(image, tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as back:
        assert back.size == (40, 30)
        assert back.getexif().get(0x0112, 1) == 1
        difference = np.asarray(back).astype(int) - image.preview().astype(int)
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("suffix", [*HDR_FORMATS, *PREVIEW_FORMATS])
def test_nothing_is_overwritten_unasked(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"precious")
    save = save_hdr if suffix in HDR_FORMATS else save_preview
    with pytest.raises(PocketError, match="exists"):
        save(_image(), path)
    assert path.read_bytes() == b"precious"
    save(_image(), path, overwrite=True)
    assert path.read_bytes() != b"precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.jpg"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    with pytest.raises(PocketError, match="no format for"):
        save_hdr(_image(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_suffixes_are_checked_before_the_work(tmp_path):
    check_suffixes(tmp_path / "a.EXR", tmp_path / "a.JPG")
    with pytest.raises(PocketError, match=r"\.exr, \.hdr"):
        check_suffixes(tmp_path / "a.png")
    with pytest.raises(PocketError, match=r"\.jpg"):
        check_suffixes(tmp_path / "a.exr", tmp_path / "a.exr")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def broken(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", broken)
    with pytest.raises(PocketError, match="disk is full"):
        save_hdr(_image(), tmp_path / "a.hdr")
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PocketError, match="cannot write"):
        save_hdr(_image(), tmp_path / "file" / "a.exr")
