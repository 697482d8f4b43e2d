"""Photographs are read as they are stored, whatever their suffix says and their EXIF."""

from __future__ import annotations

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
