"""Whole brackets through an artifact: tiled equals whole, in either domain, of any size."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fuse_toy import CHANNELS, RADIUS, exported

from pockethdr.brackets.bracket import Bracket, Camera, Frame, flip, flips_of, mosaic_of, unpack
from pockethdr.errors import ArtifactError
from pockethdr.files import sha256_of
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.fuse import Fuser, fuse
from pockethdr.runtime.image import image_of
from pockethdr.runtime.runner import open_runner
from pockethdr.runtime.tiling import cut, tiles

onnx = pytest.importorskip("onnx")
TILE = 24


def _bracket(domain, height, width, cfa="RGGB"):
    generator = np.random.default_rng(0)
    shape = (2 * height, 2 * width) if domain == "raw" else (height, width, 3)
    frames = [Frame(None, generator.random(shape, dtype=np.float32), t) for t in (1, 4, 16)]
    camera = Camera(cfa, wb_gains=(2.0, 1.0, 1.5)) if domain == "raw" else None
    return Bracket("random", domain, tuple(frames), (1.0, 4.0, 16.0), camera)


def _whole(folder, bracket):
    path = exported(folder, bracket.domain, bracket.size())
    return open_runner(path, "onnx").run(bracket.inputs())[0]


@pytest.mark.parametrize("domain", ["raw", "rgb"])
@pytest.mark.parametrize("size", [(24, 24), (50, 70), (26, 98), (100, 24)])
def test_tiled_equals_whole(tmp_path, domain, size):
    bracket = _bracket(domain, *size)
    image = fuse(exported(tmp_path / "a", domain, (TILE, TILE)), bracket, threads=1)
    np.testing.assert_allclose(image.pixels, _whole(tmp_path / "b", bracket), atol=1e-6)
    assert image.tiles == len(tiles(size, (TILE, TILE), RADIUS, 2))
    assert image.runner.startswith("ONNX Runtime")
    assert set(image.seconds) == {"load", "read", "pack", "run", "blend"}
    assert len(image.notes) == 1


@pytest.mark.parametrize("size", [(1, 1), (5, 31), (33, 47)])
def test_any_size_comes_back_whole(tmp_path, size):
    bracket = _bracket("raw", *size)
    image = fuse(exported(tmp_path, "raw", (TILE, TILE)), bracket, threads=1)
    assert image.pixels.shape == (4, *size)
    assert np.isfinite(image.pixels).all()


def test_a_halo_that_the_manifest_understates_shows(tmp_path):
    bracket = _bracket("rgb", 60, 60)
    image = fuse(exported(tmp_path / "a", "rgb", (TILE, TILE), halo=0), bracket, threads=1)
    assert np.abs(image.pixels - _whole(tmp_path / "b", bracket)).max() > 1e-3


def test_a_network_without_a_radius_is_run_with_a_note(tmp_path):
    artifact = exported(tmp_path, "rgb", (TILE, TILE), halo=None)
    assert "decides for itself" in fuse(artifact, _bracket("rgb", 60, 60), threads=1).notes[1]
    assert len(fuse(artifact, _bracket("rgb", 20, 24), threads=1).notes) == 1


@pytest.mark.parametrize("domain", CHANNELS)
@pytest.mark.parametrize("last", ["channels last", "channels first"])
@pytest.mark.parametrize("size", [(40, 30), (20, 17), (3, 50)])
def test_a_tile_is_fed_the_bracket_inputs_cut(domain, last, size):
    bracket = _bracket(domain, *size)
    feed, whole = Feed(bracket), bracket.inputs()
    shape = (TILE, TILE, CHANNELS[domain][0])
    for tile in tiles(bracket.size(), (TILE, TILE), 2, 2):
        for index, frame in enumerate(whole):
            view = np.empty(shape, np.float32)
            if last == "channels first":
                view = np.empty(shape[::-1], np.float32).transpose(1, 2, 0).transpose(1, 0, 2)
            feed.fill(index, tile, view)
            expected = cut(frame, tile)[0].transpose(1, 2, 0)
            np.testing.assert_allclose(view, expected, rtol=1e-6)


def test_a_network_that_returns_nan_makes_no_picture(tmp_path):
    bracket = _bracket("rgb", 60, 60)
    bracket.frames[1].pixels[50, 50] = np.nan
    with pytest.raises(ArtifactError, match="returns NaN or infinity in rows"):
        fuse(exported(tmp_path, "rgb", (TILE, TILE)), bracket, threads=1)


@pytest.mark.parametrize("size", [[TILE, 2 * TILE], [10**9, 10**9]])
def test_a_manifest_that_lies_about_the_size_is_refused(tmp_path, size):
    artifact = exported(tmp_path, "rgb", (TILE, TILE))
    path = artifact.with_name("manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": size}))
    with pytest.raises(ArtifactError, match=r"takes tiles of 24×24×6, its manifest says"):
        fuse(artifact, _bracket("rgb", 60, 60), threads=1)


def _says(artifact, **changes):
    """The manifest of `artifact` with other values."""
    path = artifact.with_name("manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return artifact


def _takes_a_context(artifact):
    """`artifact` with a fourth input 1×3×1×1 that its manifest does not tell of."""
    model = onnx.load(artifact)
    shape = onnx.TensorProto.FLOAT, [1, 3, 1, 1]
    model.graph.input.append(onnx.helper.make_tensor_value_info("context", *shape))
    onnx.save(model, artifact)
    (record,) = json.loads(artifact.with_name("manifest.json").read_text())["artifacts"]
    return _says(artifact, artifacts=[record | {"sha256": sha256_of(artifact)}])


def _context(channels, **more):
    return {"channels": channels, "values": [], "grid": None, **more}


def test_a_manifest_that_lies_about_the_channels_is_refused(tmp_path):
    artifact = _says(exported(tmp_path, "raw", (TILE, TILE)), domain="rgb")
    with pytest.raises(ArtifactError, match=r"takes tiles of 24×24×8, .* says tiles of 24×24×6"):
        Fuser(artifact)


def test_a_context_that_only_the_manifest_knows_of_is_refused(tmp_path):
    artifact = _says(exported(tmp_path, "rgb", (TILE, TILE)), context=_context(3))
    with pytest.raises(ArtifactError, match=r"takes tiles .*6, .* and a context of 1×1×3"):
        Fuser(artifact)


@pytest.mark.parametrize("said", [None, _context(4), _context(3, grid=[4, 4])])
def test_a_context_that_the_manifest_does_not_know_of_is_refused(tmp_path, said):
    """It would be left as the memory was before, and the picture be wrong without a word."""
    artifact = _takes_a_context(exported(tmp_path, "rgb", (TILE, TILE)))
    with pytest.raises(ArtifactError, match=r"and a context of 1×1×3, its manifest says"):
        Fuser(_says(artifact, context=said))


def test_a_context_without_its_artifact_is_refused(tmp_path):
    artifact = _takes_a_context(exported(tmp_path, "rgb", (TILE, TILE)))
    with (
        Fuser(_says(artifact, context=_context(3))) as fuser,
        pytest.raises(ArtifactError, match="needs a context artifact, and its manifest lists none"),
    ):
        fuser.fuse(_bracket("rgb", 30, 30))


def test_a_context_that_cannot_be_is_refused(tmp_path):
    artifact = exported(tmp_path, "rgb", (TILE, TILE))
    with pytest.raises(ArtifactError, match="not a manifest"):
        Fuser(_says(artifact, context=_context(3, grid=[4, 4], stride=0)))


def test_the_wrong_domain_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="takes raw brackets"):
        fuse(exported(tmp_path, "raw", (TILE, TILE)), _bracket("rgb", 30, 30))


def test_an_artifact_without_its_folder_is_refused(tmp_path):
    artifact = exported(tmp_path, "rgb", (TILE, TILE))
    artifact.with_name("manifest.json").unlink()
    with pytest.raises(ArtifactError, match="copy the whole folder"):
        fuse(artifact, _bracket("rgb", 30, 30))


def test_a_stale_artifact_is_refused(tmp_path):
    artifact = exported(tmp_path / "a", "rgb", (TILE, TILE))
    other = exported(tmp_path / "b", "rgb", (TILE, TILE), gain=2.0)
    artifact.write_bytes(other.read_bytes())
    with pytest.raises(ArtifactError, match="not what was exported"):
        fuse(artifact, _bracket("rgb", 30, 30))


@pytest.mark.parametrize("cfa", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_raw_images_come_back_in_sensor_orientation(cfa):
    """A red corner, mosaicked by any sensor, keeps its place and its colour."""
    scene = np.full((32, 40, 3), 0.2, np.float32)
    scene[:16, :20] = [0.8, 0.1, 0.1]
    flips = flips_of(cfa)
    flipped = flip(scene.transpose(2, 0, 1), flips).transpose(1, 2, 0)
    mosaic = mosaic_of(flipped)
    packed = np.stack([mosaic[r::2, c::2] for r in (0, 1) for c in (0, 1)])
    assert np.array_equal(unpack(packed), mosaic)
    rgb = image_of(packed, "raw", Camera(cfa), flips=flips).rgb()
    np.testing.assert_allclose(rgb[3:12, 3:16], scene[3:12, 3:16], atol=1e-5)
    np.testing.assert_allclose(rgb[20:, 24:], scene[20:, 24:], atol=1e-5)
