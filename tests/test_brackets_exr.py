"""EXR files survive a round trip bit for bit, and broken ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pockethdr.brackets.exr import read_exr, write_exr
from pockethdr.errors import BracketError, PocketError


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).lognormal(sigma=3, size=(7, 5, 3)).astype(np.float32)


def test_float_round_trip_is_bit_exact(tmp_path: Path, image: np.ndarray) -> None:
    write_exr(tmp_path / "a.exr", image, half=False, attributes={"comments": "by a test"})
    np.testing.assert_array_equal(read_exr(tmp_path / "a.exr"), image)


def test_half_round_trip_rounds_to_half_and_never_to_infinity(
    tmp_path: Path, image: np.ndarray
) -> None:
    image[0, 0, 0] = 1e6
    write_exr(tmp_path / "a.exr", image)
    back = read_exr(tmp_path / "a.exr")
    assert back[0, 0, 0] == 65504
    np.testing.assert_array_equal(back[1:], image[1:].astype(np.float16).astype(np.float32))


def test_red_is_first(tmp_path: Path) -> None:
    red = np.zeros((2, 2, 3), np.float32)
    red[..., 0] = 1
    write_exr(tmp_path / "red.exr", red)
    assert read_exr(tmp_path / "red.exr")[0, 0].tolist() == [1, 0, 0]


def test_truncated_file_is_refused(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.exr"
    write_exr(path, np.tile(image, (40, 40, 1)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BracketError, match=r"a\.exr.*cannot be read"):
        read_exr(path)


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.exr").write_text("not an exr" * 100)
    for name in ("a.exr", "b.exr"):
        with pytest.raises(BracketError, match=name):
            read_exr(tmp_path / name)


def test_failed_write_leaves_nothing(tmp_path: Path, image: np.ndarray) -> None:
    (tmp_path / "taken.exr").mkdir()
    with pytest.raises(PocketError, match="is a folder"):
        write_exr(tmp_path / "taken.exr", image)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.exr"]


def test_shared_ground_truth_reads(shared_brackets: Path) -> None:
    truth = read_exr(shared_brackets / "syn_desk_iso1600" / "gt_camera_rgb.exr")
    assert truth.shape == (768, 576, 3)
    assert truth.dtype == np.float32
    assert truth.min() >= 0
    assert truth.max() == 1.0
