"""DNG brackets through LibRaw: pixels, levels, pattern, white balance and exposure from the file.

No phone DNG may be bundled, so the test writes the smallest DNG that LibRaw takes.
"""

from __future__ import annotations

import builtins
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pockethdr.brackets.bracket import FLIPS, flip
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.errors import BracketError, Unavailable

BLACK, WHITE = 64, 1023
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 10: "ii"}
_COLOURS = {"R": 0, "G": 1, "B": 2}


def write_dng(path: Path, mosaic: np.ndarray, cfa: str, seconds: float) -> None:
    """An uncompressed 16-bit DNG 1.4 with one IFD and an EXIF IFD."""
    height, width = mosaic.shape
    time = (round(seconds * 1e6), 1_000_000)
    exif = [(0x829A, 5, time), (0x8827, 3, (100,))]
    identity = tuple(number for k in range(9) for number in (int(k % 4 == 0), 1))
    tags: list[tuple[int, int, Any]] = [
        (254, 4, (0,)), (256, 4, (width,)), (257, 4, (height,)), (258, 3, (16,)), (259, 3, (1,)),
        (262, 3, (32803,)), (271, 2, b"Test\0"), (272, 2, b"Phone\0"), (273, 4, (0,)),
        (274, 3, (6,)), (277, 3, (1,)), (278, 4, (height,)), (279, 4, (2 * height * width,)),
        (33421, 3, (2, 2)), (33422, 1, tuple(_COLOURS[letter] for letter in cfa)),
        (34665, 4, (0,)), (50706, 1, (1, 4, 0, 0)), (50708, 2, b"Test Phone\0"),
        (50714, 4, (BLACK,)), (50717, 4, (WHITE,)), (50721, 10, identity),
        (50728, 5, (1, 2, 1, 1, 2, 3)), (50778, 3, (21,)),
    ]  # fmt: skip
    first = 8
    second = first + len(_ifd(tags, first))
    pixels = second + len(_ifd(exif, second))
    where = {273: (pixels,), 34665: (second,)}
    tags = [(tag, kind, where.get(tag, values)) for tag, kind, values in tags]
    blocks = (_ifd(tags, first), _ifd(exif, second), mosaic.astype("<u2").tobytes())
    path.write_bytes(b"II*\0" + struct.pack("<I", first) + b"".join(blocks))


def _ifd(tags: list[tuple[int, int, Any]], start: int) -> bytes:
    """One image file directory at offset `start`, its long values right behind it."""
    entries, beyond = b"", b""
    values_at = start + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        layout = _FORMATS[kind]
        data = values if kind == 2 else struct.pack(f"<{len(values)}{layout[0]}", *values)
        entries += struct.pack("<HHI", tag, kind, len(values) // len(layout))
        if len(data) > 4:
            entries += struct.pack("<I", values_at + len(beyond))
            beyond += data + bytes(len(data) % 2)
        else:
            entries += data.ljust(4, b"\0")
    return struct.pack("<H", len(tags)) + entries + bytes(4) + beyond


@pytest.fixture
def radiance() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.005, 1.0, (48, 64))


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG"])
def test_dng_bracket(tmp_path: Path, radiance: np.ndarray, cfa: str) -> None:
    pytest.importorskip("rawpy")
    for name, ratio in (("c", 1), ("a", 4), ("b", 16)):
        numbers = np.round(np.clip(radiance * ratio, 0, 1) * (WHITE - BLACK) + BLACK)
        write_dng(tmp_path / f"{name}.dng", numbers, cfa, 0.001 * ratio)
    assert find_brackets(tmp_path, domain="raw") == [tmp_path]
    bracket = read_bracket(tmp_path)
    assert bracket.ratios == pytest.approx((1, 4, 16), rel=1e-3)
    assert bracket.frames[0].exposure_s == pytest.approx(0.001, rel=1e-3)
    assert bracket.camera is not None
    assert (bracket.camera.cfa, bracket.camera.bit_depth) == (cfa, 10)
    assert (bracket.camera.black_level, bracket.camera.white_level) == (BLACK, WHITE)
    assert bracket.camera.wb_gains == pytest.approx((2, 1, 1.5), rel=1e-3)
    np.testing.assert_allclose(bracket.camera.ccm.sum(axis=1), 1, rtol=1e-4)
    assert bracket.orientation == 6
    assert bracket.flips == FLIPS[cfa]
    np.testing.assert_allclose(
        bracket.frames[0].pixels, flip(radiance, FLIPS[cfa]), atol=0.6 / (WHITE - BLACK)
    )


def test_a_camera_that_cannot_be_is_refused_by_file(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("rawpy")
    monkeypatch.setitem(globals(), "BLACK", WHITE)
    for name, seconds in (("a", 0.1), ("b", 0.2), ("c", 0.4)):
        write_dng(tmp_path / f"{name}.dng", np.full((48, 64), WHITE), "RGGB", seconds)
    with pytest.raises(BracketError, match=r"[abc]\.dng: black level 1023, white level 1023"):
        read_bracket(tmp_path)


def test_without_rawpy(
    tmp_path: Path, radiance: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipped with the line that installs it, not a crash."""
    write_dng(tmp_path / "a.dng", radiance * WHITE, "RGGB", 0.1)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "rawpy":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable, match=r"pockethdr\[raw\]"):
        read_bracket(tmp_path)
