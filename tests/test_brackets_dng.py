"""DNG brackets through LibRaw: pixels, levels, pattern, white balance and exposure from the file.

No phone DNG may be bundled, so the test writes its own.
"""

from __future__ import annotations

import builtins
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pockethdr.brackets.bracket import FLIPS, flip
from pockethdr.brackets.dng import read_dng
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.errors import BracketError, Unavailable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from dng import write_dng

BLACK, WHITE = 64, 1023
DESCRIBED = {
    "black_level": BLACK,
    "white_level": WHITE,
    "as_shot_neutral": (0.5, 1, 2 / 3),
    "orientation": 6,
}


def written(path: Path, mosaic: np.ndarray, cfa: str, seconds: float) -> None:
    write_dng(path, mosaic, seconds, {**DESCRIBED, "cfa_pattern": cfa})


@pytest.fixture
def radiance() -> np.ndarray:
    return np.random.default_rng(2).uniform(0.005, 1.0, (48, 64))


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG"])
def test_dng_bracket(tmp_path: Path, radiance: np.ndarray, cfa: str) -> None:
    pytest.importorskip("rawpy")
    for name, ratio in (("c", 1), ("a", 4), ("b", 16)):
        numbers = np.round(np.clip(radiance * ratio, 0, 1) * (WHITE - BLACK) + BLACK)
        written(tmp_path / f"{name}.dng", numbers, cfa, 0.001 * ratio)
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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_dng(tmp_path: Path, radiance: np.ndarray, orientation: int) -> None:
    pytest.importorskip("rawpy")
    described = {**DESCRIBED, "orientation": orientation, "cfa_pattern": "RGGB"}
    write_dng(tmp_path / "a.dng", np.round(radiance * WHITE), 0.01, described)
    assert read_dng(tmp_path / "a.dng")[2] == orientation


READ = """
import sys
from pathlib import Path
from pockethdr.brackets.read import read_bracket

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

before = resident()
bracket = read_bracket(Path(sys.argv[1]), stream=True)
print((resident() - before) * 4096 / 24e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_decoders_took_is_given_back(tmp_path: Path) -> None:
    """In frames of 24 MB: nine of them stayed, and the tiles came on top."""
    pytest.importorskip("rawpy")
    radiance = np.random.default_rng(2).uniform(0.005, 1.0, (48, 64))
    for name, ratio in (("a", 1), ("b", 4), ("c", 16)):
        numbers = np.round(np.clip(radiance * ratio, 0, 1) * (WHITE - BLACK) + BLACK)
        large = np.tile(numbers, (63, 63))[:3000, :4000]
        written(tmp_path / f"{name}.dng", large, "GBRG", 0.001 * ratio)
    command = [sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 4


def test_a_camera_that_cannot_be_is_refused_by_file(tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("rawpy")
    monkeypatch.setitem(DESCRIBED, "black_level", WHITE)
    for name, seconds in (("a", 0.1), ("b", 0.2), ("c", 0.4)):
        written(tmp_path / f"{name}.dng", np.full((48, 64), WHITE), "RGGB", seconds)
    with pytest.raises(BracketError, match=r"[abc]\.dng: black level 1023, white level 1023"):
        read_bracket(tmp_path)


def test_without_rawpy(
    tmp_path: Path, radiance: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Skipped with the line that installs it, not a crash."""
    written(tmp_path / "a.dng", radiance * WHITE, "RGGB", 0.1)
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "rawpy":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(Unavailable, match=r"pockethdr\[raw\]"):
        read_bracket(tmp_path)


def test_dng_frames_count_against_the_room(tmp_path: Path, radiance: np.ndarray) -> None:
    pytest.importorskip("rawpy")
    for name, seconds in (("a", 0.001), ("b", 0.004), ("c", 0.016)):
        written(tmp_path / f"{name}.dng", BLACK + radiance * seconds * 50_000, "RGGB", seconds)
    assert read_bracket(tmp_path, stream=True, room=25_000)
    with pytest.raises(BracketError, match=r"[abc]\.dng: decoding its 0\.0 MP takes about"):
        read_bracket(tmp_path, stream=True, room=15_000)


def test_a_missing_dng_is_said_to_be_missing(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    with pytest.raises(BracketError, match=r"a\.dng: No such file"):
        read_dng(tmp_path / "a.dng")
