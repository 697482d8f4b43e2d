"""Photographs in Display P3 or Adobe RGB become sRGB; those in sRGB stay as they are to the bit."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from pockethdr.brackets.bracket import linear_to_srgb, srgb_to_linear
from pockethdr.brackets.formats import colour_pixels, read_header, read_pixels, read_small
from pockethdr.brackets.icc import foreign_profile
from pockethdr.brackets.read import read_bracket
from pockethdr.errors import BracketError

_D65 = (0.3127, 0.3290)
_SRGB_PRIMARIES = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_P3_PRIMARIES = (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
_CURVE = np.rint(srgb_to_linear(np.linspace(0, 1, 1024)) * 65535).astype(np.uint16)
P3 = imagecodecs.cms_profile(
    "rgb", whitepoint=_D65, primaries=_P3_PRIMARIES, transferfunction=_CURVE
)
ADOBE = imagecodecs.cms_profile("adobergb")
GAMMA = imagecodecs.cms_profile("rgb", whitepoint=_D65, primaries=_SRGB_PRIMARIES, gamma=2.2)
SRGB = {
    "none": None,
    "srgb": imagecodecs.cms_profile("srgb"),
    "pillow": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "curve": imagecodecs.cms_profile(
        "rgb", whitepoint=_D65, primaries=_SRGB_PRIMARIES, transferfunction=_CURVE
    ),
}
# To linear sRGB, from CSS Color Module Level 4, section 10: D65 throughout.
_FROM_P3 = np.array(
    [[1.2249402, -0.2249402, 0], [-0.0420570, 1.0420570, 0], [-0.0196376, -0.0786360, 1.0982736]]
)
_FROM_ADOBE = np.array(
    [[1.3983557, -0.3983557, 0], [0, 1, 0], [0, -0.0429389, 1.0429389]]
)  # fmt: skip
_NAMES = ("short.png", "mid.png", "long.png")


def colours(dtype: type = np.uint8) -> np.ndarray:
    largest = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, largest, (24, 32, 3), dtype, endpoint=True)


def expected(codes: np.ndarray, matrix: np.ndarray, gamma: float | None) -> np.ndarray:
    """The same colours as sRGB codes, by the formulas."""
    largest = np.iinfo(codes.dtype).max
    encoded = codes / largest
    linear = srgb_to_linear(encoded) if gamma is None else encoded**gamma
    return linear_to_srgb(np.clip(linear @ matrix.T, 0, 1)) * largest


def save(path: Path, codes: np.ndarray, icc: bytes | None) -> Path:
    """A PNG of 8 or 16 bits, grey or RGB, with an iCCP chunk."""
    png = cv2.imencode(".png", codes if codes.ndim == 2 else codes[..., ::-1])[1].tobytes()
    if icc is not None:
        data = b"iCCP" + b"profile\0\0" + zlib.compress(icc)
        chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
        png = png[:33] + chunk + png[33:]
    path.write_bytes(png)
    return path


def bracket(folder: Path, icc: bytes | None, **fields: object) -> Path:
    """The same scene at three exposures."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = srgb_to_linear(colours() / 255) / 8
    for name, gain in zip(_NAMES, (1, 4, 16), strict=True):
        codes = np.rint(linear_to_srgb(np.clip(scene * gain, 0, 1)) * 255).astype(np.uint8)
        save(folder / name, codes, icc)
    described = {"files": _NAMES, "exposure_times_s": (0.01, 0.04, 0.16), **fields}
    (folder / "metadata.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(("dtype", "off"), [(np.uint8, 0.8), (np.uint16, 60)])
@pytest.mark.parametrize(
    ("icc", "matrix", "gamma"), [(P3, _FROM_P3, None), (ADOBE, _FROM_ADOBE, 563 / 256)]
)
def test_other_colours_become_srgb(
    tmp_path: Path, icc: bytes, matrix: np.ndarray, gamma: float | None, dtype: type, off: float
) -> None:
    codes = colours(dtype)
    read = colour_pixels(save(tmp_path / "a.png", codes, icc))
    assert read.dtype == dtype
    np.testing.assert_allclose(read, expected(codes, matrix, gamma), atol=off)
    assert np.abs(read - codes.astype(float)).max() > 20 * off, "as stored they are other colours"


@pytest.mark.parametrize("name", SRGB)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_srgb_stays_as_it_is(tmp_path: Path, name: str, dtype: type) -> None:
    path = save(tmp_path / "a.png", colours(dtype), SRGB[name])
    np.testing.assert_array_equal(colour_pixels(path), colours(dtype))
    assert foreign_profile(path, read_header(path).icc) is None


def test_the_curve_alone_makes_another_profile(tmp_path: Path) -> None:
    """sRGB's primaries, gamma 2.2: dark codes would be off by a factor of two."""
    read = colour_pixels(save(tmp_path / "a.png", colours(), GAMMA))
    np.testing.assert_allclose(read, expected(colours(), np.eye(3), 2.2), atol=0.8)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_profiles_of_jpeg_and_tiff(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (32, 24), (200, 60, 60)).save(path, icc_profile=P3, quality=100, subsampling=0)
    stored = read_pixels(path)
    assert stored[0, 0, 0] < 202
    assert colour_pixels(path)[0, 0, 0] > 210
    np.testing.assert_allclose(read_small(path), expected(stored, _FROM_P3, None), atol=0.8)


def test_a_bracket_in_p3(tmp_path: Path) -> None:
    """Said in the notes, the same streamed, and without them where it is sRGB."""
    folder = bracket(tmp_path / "p3", P3)
    whole, streamed = read_bracket(folder), read_bracket(folder, stream=True)
    assert "colours converted from RGB built-in to sRGB" in whole.notes
    assert whole.notes[-1:] == streamed.notes
    plain = read_bracket(bracket(tmp_path / "srgb", SRGB["srgb"]))
    assert not any("sRGB" in note for note in plain.notes)
    for frame, same, stored in zip(whole.frames, streamed.frames, plain.frames, strict=True):
        np.testing.assert_array_equal(frame.pixels, np.asarray(same.pixels))
        codes = np.rint(np.asarray(stored.pixels) * 255).astype(np.uint8)
        assert np.abs(np.asarray(frame.pixels) * 255 - expected(codes, _FROM_P3, None)).max() < 0.8


def test_a_response_of_its_own_leaves_the_samples(tmp_path: Path) -> None:
    folder = bracket(tmp_path / "p3", P3)
    linear = read_bracket(folder, response="linear")
    np.testing.assert_array_equal(
        np.asarray(linear.frames[1].pixels) * np.float32(255), read_pixels(folder / "mid.png")
    )
    assert linear.notes[-1].startswith("profile of RGB built-in left aside: response linear")


@pytest.mark.parametrize(
    "icc", [b"hello", P3[:200], imagecodecs.cms_profile("gray", gamma=2.2)], ids=len
)
def test_what_is_no_profile_of_rgb_is_refused(tmp_path: Path, icc: bytes) -> None:
    with pytest.raises(BracketError, match=r"short\.png: its colour profile cannot") as caught:
        read_bracket(bracket(tmp_path, icc))
    assert "exiftool" in caught.value.fix


def test_mosaics_have_no_colours_to_convert(tmp_path: Path) -> None:
    camera = {"cfa_pattern": "RGGB", "bit_depth": 10, "black_level": 64, "white_level": 1023}
    folder = bracket(tmp_path, None, **camera)
    for index, name in enumerate(_NAMES):
        save(folder / name, np.full((8, 8), 200 * index + 100, np.uint16), b"no profile at all")
    assert read_bracket(folder).domain == "raw"


def test_the_profile_of_a_pixel_6(tmp_path: Path, shared_brackets: Path) -> None:
    photograph = "hdrgt_pixel6pro_ultrahdr/Ultra_HDR_Samples_Originals_01.jpg"
    icc = read_header(shared_brackets / photograph).icc
    path = save(tmp_path / "a.png", colours(), icc)
    assert foreign_profile(path, icc) == "Display P3"
    np.testing.assert_allclose(colour_pixels(path), expected(colours(), _FROM_P3, None), atol=0.8)
