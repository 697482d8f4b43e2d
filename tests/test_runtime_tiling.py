"""Tiled runs equal whole runs, for every size, and a halo that is too small shows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import cv2
import fuse_toy
import numpy as np
import pytest

from pockethdr.brackets.read import read_bracket
from pockethdr.commands.bench import _tile
from pockethdr.errors import PocketError
from pockethdr.report.reference import tiled
from pockethdr.runtime.artifact import deployed
from pockethdr.runtime.fuse import fuse
from pockethdr.runtime.runner import open_runner
from pockethdr.runtime.tiling import cut, planned, reflected, run_tiled, tiles

RADIUS = 3  # of `network`: a 5×5 and a 3×3 convolution


def network(frames):
    """Two zero-padded convolutions with a non-linearity between, 1×C×H×W → 1×1×H×W."""
    generator = np.random.default_rng(1)
    first = generator.normal(scale=0.1, size=(5, 5)).astype(np.float32)
    second = generator.normal(scale=0.3, size=(3, 3)).astype(np.float32)
    total = sum(frame[0].sum(axis=0) * (i + 1) for i, frame in enumerate(frames))
    hidden = np.tanh(_convolved(total, first))
    return _convolved(hidden, second)[None, None]


def strided(frames):
    """A 4×4 convolution of stride 2 and its upsampling: right only at even tile positions."""
    plane = frames[0][0, 0]
    halved = cv2.filter2D(plane, -1, np.ones((3, 3), np.float32))[::2, ::2]
    return np.repeat(np.repeat(halved, 2, axis=0), 2, axis=1)[None, None]


def deep(frames):
    """A convolution, and one on cells of 4×4: it sees 6 pixels beyond a cell, 9 beyond a pixel."""
    plane = _convolved(frames[0][0, 0], np.ones((5, 5), np.float32) / 25)
    rows, columns = (side // 4 for side in plane.shape)
    cells = plane.reshape(rows, 4, columns, 4).transpose(0, 2, 1, 3).reshape(rows, columns, 16)
    turned = np.ascontiguousarray(_convolved(cells, np.ones((3, 3), np.float32))[..., ::-1])
    back = turned.reshape(rows, columns, 4, 4).transpose(0, 2, 1, 3)
    return np.tanh(back.reshape(1, 1, *plane.shape))


@pytest.mark.parametrize("size", [(44, 44), (100, 64), (132, 52)])
def test_cells_lie_in_one_tile_with_their_halo(size):
    frames = _frames(*size)
    tiled = run_tiled(deep, frames, tile=(32, 32), halo=6, multiple=4)
    np.testing.assert_allclose(tiled, deep(frames), atol=1e-6)


def _convolved(plane, kernel):
    return cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_CONSTANT)


def _frames(height, width, channels=2):
    generator = np.random.default_rng(0)
    return [generator.random((1, channels, height, width), dtype=np.float32) for _ in range(3)]


@pytest.mark.parametrize(
    "size",
    [(16, 16), (17, 16), (16, 40), (23, 31), (31, 57), (64, 64), (65, 33), (100, 101), (16, 17)],
)
def test_tiled_equals_whole_up_to_the_borders(size):
    frames = _frames(*size)
    tiled = run_tiled(network, frames, tile=(16, 16), halo=RADIUS)
    np.testing.assert_allclose(tiled, network(frames), atol=1e-6)


def test_a_halo_below_the_radius_is_wrong():
    frames = _frames(40, 40)
    tiled = run_tiled(network, frames, tile=(16, 16), halo=RADIUS - 1)
    assert np.abs(tiled - network(frames)).max() > 1e-2


@pytest.mark.parametrize("size", [(32, 32), (34, 50), (64, 46)])
def test_strided_networks_keep_their_phase(size):
    frames = _frames(*size)
    tiled = run_tiled(strided, frames, tile=(16, 16), halo=2, multiple=2)
    np.testing.assert_allclose(tiled, strided(frames), atol=1e-6)
    starts = {t.rows.start % 2 for t in tiles(size, (16, 16), 3, 2)}
    assert starts == {0}


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (15, 16), (15, 40), (7, 100)])
def test_images_below_a_tile_are_reflected(size):
    frames = _frames(*size)
    tiled = run_tiled(network, frames, tile=(16, 16), halo=RADIUS)
    assert tiled.shape == (1, 1, *size)
    if max(size) <= 16:
        (only,) = tiles(size, (16, 16), RADIUS)
        padded = network([cut(frame, only) for frame in frames])
        np.testing.assert_array_equal(tiled, padded[..., : size[0], : size[1]])


@pytest.mark.parametrize(("halo", "multiple"), [(0, 1), (3, 1), (5, 2), (2, 4)])
def test_every_pixel_has_one_owner_and_enough_around_it(halo, multiple):
    for size in range(1, 120):
        owners = np.zeros(size, int)
        end = -(-size // multiple) * multiple
        for tile in tiles((size, 16), (16, 16), halo, multiple):
            span = tile.rows
            owners[span.owned()] += 1
            first = span.own[0] // multiple * multiple
            behind = -(-span.own[1] // multiple) * multiple
            assert span.start == 0 or first - span.start >= halo
            assert span.start + 16 >= end or span.start + 16 - behind >= halo
        assert (owners == 1).all()


def test_no_more_tiles_than_needed():
    assert len(tiles((16, 16), (16, 16), 3)) == 1
    assert len(tiles((26, 16), (16, 16), 3)) == 2
    assert len(tiles((27, 16), (16, 16), 3)) == 3


def test_reflection_repeats_no_border():
    np.testing.assert_array_equal(
        reflected(np.arange(-3, 9), 4), [3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    )
    np.testing.assert_array_equal(reflected(np.arange(4), 1), [0, 0, 0, 0])


def test_progress_counts_every_tile():
    seen = []
    run_tiled(network, _frames(40, 40), tile=(16, 16), halo=3, progress=lambda *a: seen.append(a))
    assert seen == [(i + 1, 16) for i in range(16)]


@pytest.mark.parametrize(
    ("tile", "halo", "multiple"), [((16, 16), 8, 1), ((15, 16), 2, 2), ((16, 16), 7, 4)]
)
def test_impossible_tilings_are_refused(tile, halo, multiple):
    with pytest.raises(PocketError, match="tile of"):
        tiles((64, 64), tile, halo, multiple)


def test_without_a_halo_all_cut_the_same_tiles(tmp_path):
    """`fuse`, the report and `bench` see one plan, wherever a tile's surroundings matter."""
    pytest.importorskip("onnx")
    photos = Path(str(files("pockethdr.brackets") / "sample"))
    bracket = read_bracket(photos, domain="raw")
    artifact = fuse_toy.exported(tmp_path, "raw", (64, 64), halo=None)
    manifest, inputs = deployed(artifact).manifest, bracket.inputs()

    plan, notes = planned(manifest, bracket.size())
    with closing(open_runner(artifact, "onnx")) as runner:
        judged = tiled(runner.run, inputs, manifest)[0]

    assert plan == tiles(bracket.size(), (64, 64), 8, 2) != tiles(bracket.size(), (64, 64), 0, 2)
    np.testing.assert_array_equal(fuse(artifact, bracket, threads=1).pixels, judged)
    for benched, frame in zip(_tile(artifact, photos), inputs, strict=True):
        np.testing.assert_array_equal(benched, cut(frame, plan[len(plan) // 2]))
    assert "decides for itself" in notes[0]
    assert planned(manifest, (64, 60))[1] == ()


@pytest.mark.parametrize(("side", "multiple"), [(128, 64), (64, 32), (96, 32), (64, 1), (16, 16)])
def test_without_a_halo_any_tile_owns_something(side, multiple, tmp_path):
    pytest.importorskip("onnx")
    artifact = fuse_toy.exported(tmp_path, "raw", (side, side), halo=None)
    manifest = replace(deployed(artifact).manifest, multiple=multiple)
    plan, notes = planned(manifest, (300, side))
    assert len(plan) <= 2 * -(-300 // multiple)
    assert all(tile.rows.own[0] < tile.rows.own[1] for tile in plan)
    assert notes
