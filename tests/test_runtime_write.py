"""What is written reads back, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from pockethdr.brackets.bracket import LUMINANCE, Camera, flips_of, srgb_to_linear
from pockethdr.brackets.exr import read_exr
from pockethdr.brackets.formats import read_header
from pockethdr.brackets.read import read_bracket
from pockethdr.errors import PocketError
from pockethdr.runtime.exif import carried_exif
from pockethdr.runtime.gainmap import luminance_of
from pockethdr.runtime.image import InMemory, image_of, upright
from pockethdr.runtime.jpeg import StripJpeg
from pockethdr.runtime.write import (
    HDR_FORMATS,
    PREVIEW_FORMATS,
    check_suffixes,
    save_hdr,
    save_preview,
)


def _image(orientation=6, gain=1.0):
    pixels = np.random.default_rng(0).random((3, 40, 30), dtype=np.float32) * gain
    return image_of(pixels, "rgb", orientation=orientation)


def _smooth(orientation=1, size=(400, 300)):
    """A ramp of ten stops with colours, as H×W of the sensor."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    levels = np.exp2(10 * (rows / size[0] - 1))
    planes = np.stack([levels, levels * (1 - 0.3 * columns / size[1]), levels * 0.8])
    return image_of(planes, "rgb", orientation=orientation)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("padding", [(1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("cfa", ["RGGB", "GBRG", "GRBG", "BGGR"])
def test_what_filled_an_odd_mosaic_is_not_shown(orientation, padding, cfa):
    packed = np.random.default_rng(0).random((4, 70, 20), dtype=np.float32)
    turns = {"flips": flips_of(cfa), "orientation": orientation}
    shown = image_of(packed, "raw", Camera(cfa), padding=padding, **turns)
    whole = image_of(packed, "raw", Camera(cfa), flips=flips_of(cfa)).rgb()
    cropped = whole[: 140 - padding[0], : 40 - padding[1]]
    expected = upright(cropped, orientation)
    assert shown.size == expected.shape[:2]
    strips = [shown.strip(rows) for rows in shown.strips()]
    np.testing.assert_allclose(np.concatenate(strips, axis=1), expected.transpose(2, 0, 1))


def _expected(image):
    return upright(image.pixels.transpose(1, 2, 0), image.orientation)


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


@pytest.mark.parametrize(("gain", "scale"), [(1.0, 1), (3.0, 4)])
def test_tiff_says_its_scale(tmp_path, gain, scale):
    """White-balanced raw may exceed the clip level, by what its camera says at most."""
    packed = np.random.default_rng(0).random((4, 20, 15), dtype=np.float32)
    image = image_of(packed, "raw", Camera(wb_gains=(gain, 1.0, 1.0)))
    said = save_hdr(image, tmp_path / "a.tif")
    assert f"65535 = {scale} ×" in said
    assert "upright" not in said
    back = cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert back.dtype == np.uint16
    np.testing.assert_allclose(back / 65535 * scale, image.rgb(), atol=scale / 65535)


@pytest.mark.parametrize("suffix", PREVIEW_FORMATS)
def test_previews_are_upright_and_say_so_to_viewers(tmp_path, suffix):
    image = _smooth(orientation=6)
    save_preview(image, tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as back:
        assert back.size == (400, 300)
        assert back.getexif().get(0x0112, 1) == 1
        difference = np.asarray(back).astype(int) - image.preview().astype(int)
    assert np.abs(difference).mean() < 1


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


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.png"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    with pytest.raises(PocketError, match="no format for"):
        save_hdr(_image(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_suffixes_are_checked_before_the_work(tmp_path):
    check_suffixes(tmp_path / "a.EXR", tmp_path / "a.JPG")
    with pytest.raises(PocketError, match=r"\.exr, \.hdr"):
        check_suffixes(tmp_path / "a.png")
    check_suffixes(tmp_path / "a.jpg", tmp_path / "a.png")
    with pytest.raises(PocketError, match=r"\.jpg"):
        check_suffixes(tmp_path / "a.exr", tmp_path / "a.exr")


@pytest.mark.parametrize("suffix", HDR_FORMATS)
def test_a_failed_write_leaves_nothing(tmp_path, suffix):
    class FullDisk(InMemory):
        def read(self, rows, columns):
            if rows.start:  # after the first strips have been written
                raise OSError(28, "No space left on device")
            return super().read(rows, columns)

    image = _smooth()
    broken = replace(image, planes=FullDisk(image.planes.array))
    broken.__dict__["thumbnail"] = image.thumbnail
    with pytest.raises(PocketError, match="disk is full"):
        save_hdr(broken, tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def _decoded(path):
    return imagecodecs.ultrahdr_decode(
        path.read_bytes(), dtype="float16", transfer=imagecodecs.ULTRAHDR.CT.LINEAR
    )[..., :3].astype(np.float32)


def _wanted(image):
    """Luminance that an HDR display is to show: the linear light, or more where the JPEG has it."""
    tone = image.tone()
    toned = [tone.apply(image.strip(rows), rows.start) for rows in image.strips()]
    return np.concatenate([np.maximum(strip.light, strip.shown) for strip in toned])


def _error(found, wanted):
    return float(np.median(np.abs(found @ LUMINANCE - wanted) / np.maximum(wanted, 1e-4)))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(400, 300), (401, 307), (33, 47)])
def test_ultra_hdr_gives_the_light_back_to_libultrahdr(tmp_path, orientation, size):
    image = _smooth(orientation, size)
    assert "× display white" in save_hdr(image, tmp_path / "a.jpg")
    back = _decoded(tmp_path / "a.jpg")
    assert back.shape == image.rgb().shape
    assert _wanted(image).max() > 1.2
    assert _error(back, _wanted(image)) < 0.005
    with Image.open(tmp_path / "a.jpg") as shown:
        difference = np.asarray(shown.convert("RGB")).astype(int) - image.preview()
    assert np.abs(difference).mean() < 1


def test_the_gain_map_mends_what_coding_lost(tmp_path):
    """A real scene: without its map, or with that of the scene a pixel further on, it misses."""
    bracket = read_bracket(Path(str(files("pockethdr.brackets") / "sample")))
    scene = {"camera": bracket.camera, "flips": bracket.flips}
    image = image_of(bracket.ground_truth, "raw", **scene)
    save_hdr(image, tmp_path / "a.jpg")
    wanted = _wanted(image)
    assert _error(_decoded(tmp_path / "a.jpg"), wanted) < 0.006
    with Image.open(tmp_path / "a.jpg") as shown:
        base = srgb_to_linear(np.asarray(shown.convert("RGB")) / np.float32(255))
    assert _error(base, wanted) > 0.01
    assert _error(_decoded(tmp_path / "a.jpg"), np.roll(wanted, 1, axis=1)) > 0.006


def test_luminance_is_that_of_the_decoded_jpeg():
    pixels = _smooth().preview()
    jpeg = StripJpeg(pixels.shape[:2], 64).encoded(pixels)
    rounded = srgb_to_linear(imagecodecs.jpeg8_decode(jpeg) / np.float32(255)) @ LUMINANCE
    np.testing.assert_allclose(luminance_of(jpeg), rounded, atol=0.01)


def test_an_ultra_hdr_file_without_its_map_is_noticed(tmp_path):
    save_hdr(_smooth(), tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: data.rindex(b"\xff\xd8")])
    with pytest.raises(imagecodecs.UltrahdrError):
        _decoded(tmp_path / "a.jpg")


def test_exiftool_reads_the_map_and_what_was_carried_over(tmp_path):
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed (libimage-exiftool-perl)")
    source = tmp_path / "mid.jpg"
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0132], exif[0x0112] = (
        "Maker",
        "Phone",
        "2024:05:06 07:08:09",
        6,
    )
    exif.get_ifd(0x8769)[0x829A] = 0.25
    Image.new("RGB", (8, 8)).save(source, exif=exif)
    image = replace(_smooth(orientation=6), source=source)
    for suffix in (".jpg", ".tif", ".exr"):
        save_hdr(image, tmp_path / f"a{suffix}")
    command = [
        "exiftool",
        "-json",
        "-n",
        *(str(tmp_path / f"a{s}") for s in (".jpg", ".tif", ".exr")),
    ]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    jpeg, tiff, exr = found
    assert (jpeg["Make"], jpeg["Model"], jpeg["Orientation"]) == ("Maker", "Phone", 1)
    assert jpeg["ExposureTime"] == 0.25
    assert jpeg["NumberOfImages"] == 2
    assert jpeg["DirectoryItemLength"] in (jpeg["MPImageLength"], f"{jpeg['MPImageLength']:010d}")
    assert (tiff["Model"], tiff["ModifyDate"], tiff["Orientation"]) == (
        "Phone",
        "2024:05:06 07:08:09",
        1,
    )
    assert (exr["CameraModel"], exr["ExposureTime"]) == ("Phone", 0.25)


def test_avif_is_ten_bits_of_pq(tmp_path):
    image = _smooth()
    save_hdr(image, tmp_path / "a.avif")
    codes = imagecodecs.avif_decode((tmp_path / "a.avif").read_bytes()) / 1023
    assert codes.shape == (400, 300, 3)
    power = codes ** (1 / 78.84375)
    light = 10000 * np.maximum((power - 0.8359375) / (18.8515625 - 18.6875 * power), 0) ** (
        1 / 0.1593017578125
    )
    grey = light[300:, :20].mean() / 203
    expected = image.tone().gain * image.rgb()[300:, :20].mean()
    assert abs(grey / expected - 1) < 0.1


def test_a_place_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PocketError, match="cannot write"):
        save_hdr(_image(), tmp_path / "file" / "a.exr")


@pytest.mark.parametrize(
    ("tag", "value"),
    [(0x829D, (IFDRational(18, 10), IFDRational(18, 10))), (0x829D, IFDRational(18, 0)),
     (0x829A, IFDRational(0, 5)), (0x829A, "long"), (0x9003, (2024, 1)), (0x9003, b"2024")],
)  # fmt: skip
def test_exif_that_is_not_what_it_should_be_is_left_behind(tmp_path, tag, value):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x829A: 0.25, 0x829D: 1.8, 0x9003: "2024:01:02", tag: value})
    image = replace(_image(), source=tmp_path / "a.jpg")
    Image.new("RGB", (8, 8)).save(image.source, exif=exif)
    carried = carried_exif(image.source).get_ifd(0x8769)
    assert set(carried) == {0x829A, 0x829D, 0x9003} - {tag}
    for suffix in HDR_FORMATS:
        save_hdr(image, tmp_path / f"b{suffix}")


def test_how_the_source_was_coded_is_not_carried_over(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x829A: 0.25, 0xA001: 65535, 0xA500: 2.2, 0x9214: (3, 4)})
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert set(carried_exif(tmp_path / "a.jpg").get_ifd(0x8769)) == {0x829A}


def test_exif_that_is_none_says_nothing(tmp_path):
    """Pillow raises SyntaxError on it, and only for files that have a density too."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", dpi=(72, 72))
    data = (tmp_path / "a.jpg").read_bytes()
    broken = b"\xff\xe1\x00\x12Exif\0\0not a TIFF"
    (tmp_path / "a.jpg").write_bytes(data[:20] + broken + data[20:])
    assert read_header(tmp_path / "a.jpg").exposure_s is None
    assert carried_exif(tmp_path / "a.jpg").get_ifd(0x8769) == {}


@pytest.mark.parametrize("suffix", HDR_FORMATS)
def test_what_is_no_light_is_black(tmp_path, suffix):
    """A network without a last clamp; Radiance's bytes wrapped, and logarithms became NaN."""
    pixels = _smooth().pixels
    beyond = np.where(pixels < 0.1, -0.01, pixels)
    for name, planes in (("clipped", np.maximum(beyond, 0)), ("beyond", beyond)):
        save_hdr(image_of(planes, "rgb"), tmp_path / f"{name}{suffix}")
    clipped, negative = (
        (tmp_path / f"{name}{suffix}").read_bytes() for name in ("clipped", "beyond")
    )
    assert clipped == negative


@pytest.mark.parametrize("rows", [64, 65, 66, 67])
def test_the_directory_of_a_tiff_begins_on_a_word(tmp_path, rows):
    save_hdr(image_of(_smooth(size=(rows, 31)).pixels, "rgb"), tmp_path / "a.tif")
    data = (tmp_path / "a.tif").read_bytes()
    assert int.from_bytes(data[4:8], "little") % 2 == 0
    assert cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED).shape == (rows, 31, 3)


def test_text_of_several_lines_breaks_no_header(tmp_path):
    exif = Image.Exif()
    exif[0x0132], exif[0x0110], exif[0x8298] = "2024:01:02\n\nX=", "Model\0\0", "me\0you\r\n"
    image = replace(_image(), source=tmp_path / "a.jpg")
    Image.new("RGB", (8, 8)).save(image.source, exif=exif)
    carried = carried_exif(image.source)
    texts = {0x0132: "2024:01:02  X=", 0x0110: "Model", 0x8298: "me you"}
    assert {tag: carried[tag] for tag in texts} == texts
    save_hdr(image, tmp_path / "b.hdr")
    assert cv2.imread(str(tmp_path / "b.hdr"), cv2.IMREAD_UNCHANGED).shape == (30, 40, 3)


@pytest.mark.parametrize(("length", "comments", "kept"), [(70_000, 1, True), (4000, 20, False)])
def test_exif_that_fits_into_no_jpeg(tmp_path, length, comments, kept):
    """A PNG may hold any amount."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769).update({0xC000 + i: b"x" * length for i in range(comments)})
    image = replace(_image(), source=tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(image.source, exif=exif)
    save_hdr(image, tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as back:
        assert (back.getexif().get(0x010F) == "Maker") == kept


def test_a_full_disk_for_temporary_files_is_called_that(tmp_path, monkeypatch):
    """An Ultra HDR JPEG keeps its gains on disk meanwhile."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="for temporary files, which TMPDIR can move"):
        save_hdr(_image(), tmp_path / "out" / "a.jpg")
    assert not list((tmp_path / "out").iterdir())
