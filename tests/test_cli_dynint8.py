"""`dynint8` from the command line to the last verdict. Its gate fails in `test_report_gates`."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from judged_toy import NETWORK

from pockethdr.cli import main
from pockethdr.errors import PocketError
from pockethdr.export.manifest import read_manifest
from pockethdr.report import validate as validate_module

pytest.importorskip("litert_torch")
pytest.importorskip("onnxruntime")

SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))


def _untimed(*_: object, **__: object) -> None:
    raise PocketError("no time")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dynint8")
    (root / "net.py").write_text(NETWORK)
    folder = root / "out"
    result = run(
        "export", f"{root / 'net.py'}:factory", "--brackets", SAMPLE, "--size", "96x96",
        "--out", folder, "--targets", "tflite,onnx,coreml", "--precisions", "dynint8",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "net-factory_raw_dynint8.onnx" in result.output
    assert result.output.count("86% of its multiplications integer") == 2  # all but the last
    return folder


def test_it_is_built_where_a_runtime_has_it_and_passes(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate_module, "measure_artifact", _untimed)
    manifest = read_manifest(out)
    assert [(a.target, a.precision) for a in manifest.artifacts] == [
        ("tflite", "dynint8"),
        ("onnx", "dynint8"),
    ]
    assert manifest.calibration is None
    for row in validate_module.validate(out, [SAMPLE], threads=1):
        assert row.passed is True, row
        assert row.int8_mac_share == pytest.approx(0.857, abs=1e-3)


def test_it_fuses(out: Path, tmp_path: Path) -> None:
    for artifact in read_manifest(out).artifacts:
        target = tmp_path / f"{artifact.target}.exr"
        result = run("fuse", out / str(artifact.file), SAMPLE, "--out", target)
        assert result.exit_code == 0, result.output
        assert target.stat().st_size > 100_000


def test_debug_looks_into_tflite_and_says_why_not_into_onnx(out: Path, tmp_path: Path) -> None:
    file, common = tmp_path / "layers.json", ("--precision", "dynint8", "--brackets", SAMPLE)
    result = run("debug", out, "--target", "tflite", *common, "--json", file)
    assert result.exit_code == 0, result.output
    layers = json.loads(file.read_text())["layers"]
    assert {layer["module"] for layer in layers} >= {"first", "last"}
    assert min(layer["sqnr_db"] for layer in layers) > 15
    refused = run("debug", out, "--target", "onnx", *common)
    assert refused.exit_code == 2
    assert "look at tflite dynint8" in refused.output


def test_a_target_without_it_is_refused(tmp_path: Path) -> None:
    result = run(
        "export", "dsan-m16", "--brackets", SAMPLE, "--out", tmp_path / "o",
        "--targets", "coreml", "--precisions", "dynint8",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "no target among coreml has dynint8" in result.output
