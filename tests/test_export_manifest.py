"""Manifests survive their file, and damaged ones are named."""

import subprocess
import sys
from pathlib import Path

import pytest

from pockethdr.errors import ArtifactError
from pockethdr.export.manifest import Artifact, FileRecord, Manifest, read_manifest, write_manifest


def _manifest() -> Manifest:
    return Manifest(
        model="dsan-m32",
        spec="dsan-m32",
        domain="raw",
        size=(256, 256),
        halo=None,
        multiple=2,
        channels=8,
        output_channels=4,
        weights=FileRecord("weights.safetensors", "ab"),
        graph_sha256="cd",
        calibration=None,
        artifacts=(
            Artifact("tflite", "int8", "a.tflite", "ef", 3, "NHWC", {"symmetric": False}),
            Artifact("tensorrt", "fp16", None, skipped="no TensorRT; pip install it"),
        ),
        recipe={"name": "hdr"},
        rewrites=({"rewrite": "lowrank"},),
        refusals=(),
        versions={"torch": "2"},
        command="pockethdr export",
    )


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    write_manifest(_manifest(), tmp_path)
    assert read_manifest(tmp_path) == _manifest()
    assert read_manifest(tmp_path / "manifest.json") == _manifest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"schema": 1', '"schema": 2'),
        ('"domain"', '"domian"'),
        ('"file": "a.tflite"', '"fiel": "a.tflite"'),
        ("{", "["),
        ('"domain": "raw"', '"domain": "rwa"'),
        ('"multiple": 2', '"multiple": 0'),
        ('"halo": null', '"halo": -5'),
        ('"halo": null', '"halo": "a"'),
        ('"layout": "NHWC"', '"layout": "NWHC"'),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = write_manifest(_manifest(), tmp_path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ArtifactError, match=r"manifest\.json is not a manifest"):
        read_manifest(tmp_path)


def test_no_manifest_says_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="pockethdr export"):
        read_manifest(tmp_path)


def test_reading_a_manifest_needs_no_torch() -> None:
    code = "import sys, pockethdr.export.manifest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
