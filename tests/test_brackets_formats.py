"""Photographs are read as they are stored, whatever their suffix says and their EXIF."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from pockethdr.brackets.formats import read_header, read_pixels
from pockethdr.errors import BracketError
from pockethdr.runtime.exif import carried_exif

ORIENTATION = 274
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'


def picture(channels: int, bits: int) -> np.ndarray:
    """4×6, of which no two samples are alike."""
    samples = np.random.default_rng(1).permutation(4 * 6 * channels)
    deep = (samples * (3 if bits == 8 else 700)).astype(f"uint{bits}")
    return deep.reshape((4, 6, 3) if channels == 3 else (4, 6))


def written(path: Path, pixels: np.ndarray, orientation: int, **options: Any) -> Path:
    """A picture that says how it has to be turned."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    if path.suffix.startswith(".tif"):
        tag = (ORIENTATION, "H", 1, orientation, True)
        kind = "rgb" if pixels.ndim == 3 else "minisblack"
        tifffile.imwrite(path, pixels, photometric=kind, extratags=[tag], metadata=None, **options)
    elif path.suffix == ".png":
        coded, block = imagecodecs.png_encode(pixels), b"eXIf" + exif.tobytes()[6:]
        size, check = struct.pack(">I", len(block) - 4), struct.pack(">I", zlib.crc32(block))
        path.write_bytes(coded[:33] + size + block + check + coded[33:])
    else:
        Image.fromarray(pixels).save(path, exif=exif, quality=95)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("suffix", "bits"),
    [(".jpg", 8), (".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".tiff", 16)],
)
def test_nothing_is_turned(
    tmp_path: Path, suffix: str, bits: int, channels: int, orientation: int
) -> None:
    pixels = picture(channels, bits)
    path = written(tmp_path / f"a{suffix}", pixels, orientation)
    header = read_header(path)
    assert (header.size, header.orientation) == ((4, 6), orientation)
    if suffix == ".jpg":
        pixels = read_pixels(written(tmp_path / "upright.jpg", pixels, 1))
    np.testing.assert_array_equal(read_pixels(path), pixels)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(
    "options",
    [{"byteorder": ">"}, {"bigtiff": True}, {"compression": "zlib"}, {"tile": (16, 16)}],
    ids=str,
)
def test_no_tiff_is_turned(tmp_path: Path, bits: int, options: dict[str, Any]) -> None:
    pixels = picture(3, bits)
    path = written(tmp_path / "a.tif", pixels, 6, **options)
    np.testing.assert_array_equal(read_pixels(path), pixels)
    assert read_header(path).size == (4, 6)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_with_its_orientation_in_xmp(tmp_path: Path, bits: int) -> None:
    path, pixels = tmp_path / "a.tif", picture(3, bits)
    tag = (700, "B", len(XMP), XMP, True)
    tifffile.imwrite(path, pixels, photometric="rgb", extratags=[tag], metadata=None)
    assert (read_header(path).size, read_header(path).orientation) == ((4, 6), 6)
    np.testing.assert_array_equal(read_pixels(path), pixels)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("hidden", ["EPS", "GIF", "BMP", "WEBP", "PPM", "TGA", "JPEG2000"])
def test_no_other_format_hides_behind_a_name(tmp_path: Path, hidden: str, suffix: str) -> None:
    """Of EPS, Pillow would start Ghostscript."""
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[271] = "Maker"
    Image.fromarray(picture(3, 8)).save(path, format=hidden, exif=exif)
    for read in (read_header, read_pixels):
        with pytest.raises(BracketError, match="not an image that can be read") as caught:
            read(path)
        assert caught.value.expected == "a complete JPEG, PNG or TIFF"
    assert 271 not in carried_exif(path)


def test_several_pictures_in_one_jpeg(tmp_path: Path) -> None:
    """As phones write them, with a depth or gain map behind the picture."""
    first, second = (Image.fromarray(p) for p in (picture(3, 8), picture(1, 8)))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    alone = io.BytesIO()
    first.save(alone, "JPEG")
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.jpg"), Image.open(alone))
