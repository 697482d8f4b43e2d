"""Whole brackets through an artifact: tiled equals whole, in either domain, of any size."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pockethdr.brackets.bracket import Bracket, Camera, Frame, flip, flips_of, mosaic_of, unpack
from pockethdr.errors import ArtifactError
from pockethdr.export.manifest import sha256_of
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.fuse import fuse
from pockethdr.runtime.image import image_of
from pockethdr.runtime.runner import open_runner
from pockethdr.runtime.tiling import cut, tiles

onnx = pytest.importorskip("onnx")
TILE, RADIUS = 24, 2
CHANNELS = {"raw": (8, 4), "rgb": (6, 3)}


def _bracket(domain, height, width, cfa="RGGB"):
    generator = np.random.default_rng(0)
    shape = (2 * height, 2 * width) if domain == "raw" else (height, width, 3)
    frames = [Frame(None, generator.random(shape, dtype=np.float32), t) for t in (1, 4, 16)]
    camera = Camera(cfa, wb_gains=(2.0, 1.0, 1.5)) if domain == "raw" else None
    return Bracket("random", domain, tuple(frames), (1.0, 4.0, 16.0), camera)


def _export(folder, domain, size, *, halo=RADIUS, gain=1.0):
    """An ONNX network of two 3×3 convolutions (receptive radius 2) in an export folder."""
    from onnx import TensorProto, helper, numpy_helper

    inputs, outputs = CHANNELS[domain]
    generator = np.random.default_rng(2)
    first = generator.normal(0, 0.2, (6, 3 * inputs, 3, 3)).astype(np.float32)
    last = gain * generator.normal(0, 0.2, (outputs, 6, 3, 3)).astype(np.float32)
    names = ["short", "mid", "long"]
    pads = [1, 1, 1, 1]
    graph = helper.make_graph(
        [
            helper.make_node("Concat", names, ["all"], axis=1),
            helper.make_node("Conv", ["all", "first"], ["a"], pads=pads),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "last"], ["c"], pads=pads),
            helper.make_node("Sigmoid", ["c"], ["hdr"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, inputs, *size]) for n in names],
        [helper.make_tensor_value_info("hdr", TensorProto.FLOAT, [1, outputs, *size])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(last, "last")],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny_{domain}_fp32.onnx"
    onnx.save(model, path)
    _manifest(path, domain, size, halo)
    return path


def _manifest(path, domain, size, halo):
    record = {"target": "onnx", "precision": "fp32", "file": path.name, "sha256": sha256_of(path)}
    inputs, outputs = CHANNELS[domain]
    manifest = {
        "model": "tiny",
        "spec": "tiny",
        "domain": domain,
        "size": list(size),
        "halo": halo,
        "multiple": 2,
        "channels": inputs,
        "output_channels": outputs,
        "weights": None,
        "graph_sha256": "",
        "calibration": None,
        "recipe": {},
        "rewrites": [],
        "refusals": [],
        "versions": {},
        "command": "",
        "inputs": ["short", "mid", "long"],
        "schema": 1,
        "artifacts": [record],
    }
    path.with_name("manifest.json").write_text(json.dumps(manifest))


def _whole(folder, bracket):
    path = _export(folder, bracket.domain, bracket.size())
    return open_runner(path, "onnx").run(bracket.inputs())[0]


@pytest.mark.parametrize("domain", ["raw", "rgb"])
@pytest.mark.parametrize("size", [(24, 24), (50, 70), (26, 98), (100, 24)])
def test_tiled_equals_whole(tmp_path, domain, size):
    bracket = _bracket(domain, *size)
    image = fuse(_export(tmp_path / "a", domain, (TILE, TILE)), bracket, threads=1)
    np.testing.assert_allclose(image.pixels, _whole(tmp_path / "b", bracket), atol=1e-6)
    assert image.tiles == len(tiles(size, (TILE, TILE), RADIUS, 2))
    assert image.runner.startswith("ONNX Runtime")
    assert set(image.seconds) == {"load", "read", "pack", "run", "blend"}
    assert len(image.notes) == 1


@pytest.mark.parametrize("size", [(1, 1), (5, 31), (33, 47)])
def test_any_size_comes_back_whole(tmp_path, size):
    bracket = _bracket("raw", *size)
    image = fuse(_export(tmp_path, "raw", (TILE, TILE)), bracket, threads=1)
    assert image.pixels.shape == (4, *size)
    assert np.isfinite(image.pixels).all()


def test_a_halo_that_the_manifest_understates_shows(tmp_path):
    bracket = _bracket("rgb", 60, 60)
    image = fuse(_export(tmp_path / "a", "rgb", (TILE, TILE), halo=0), bracket, threads=1)
    assert np.abs(image.pixels - _whole(tmp_path / "b", bracket)).max() > 1e-3


def test_a_network_without_a_radius_is_run_with_a_note(tmp_path):
    artifact = _export(tmp_path, "rgb", (TILE, TILE), halo=None)
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


def test_the_wrong_domain_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="takes raw brackets"):
        fuse(_export(tmp_path, "raw", (TILE, TILE)), _bracket("rgb", 30, 30))


def test_an_artifact_without_its_folder_is_refused(tmp_path):
    artifact = _export(tmp_path, "rgb", (TILE, TILE))
    artifact.with_name("manifest.json").unlink()
    with pytest.raises(ArtifactError, match="copy the whole folder"):
        fuse(artifact, _bracket("rgb", 30, 30))


def test_a_stale_artifact_is_refused(tmp_path):
    artifact = _export(tmp_path / "a", "rgb", (TILE, TILE))
    other = _export(tmp_path / "b", "rgb", (TILE, TILE), gain=2.0)
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
