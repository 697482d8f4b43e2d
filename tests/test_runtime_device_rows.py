"""Figures of devices: kept whole, or refused before anything is written."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import fuse_toy
import pytest
from click.testing import CliRunner

from pockethdr.cli import main
from pockethdr.errors import ArtifactError
from pockethdr.export.manifest import read_manifest
from pockethdr.runtime.phone.rows import _KINDS, DEVICES_NAME, DeviceRow, read_rows

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = fuse_toy.exported(tmp_path_factory.mktemp("export"), "raw", (32, 32)).parent
    return out


@pytest.fixture
def out(export: Path) -> Path:
    (export / DEVICES_NAME).unlink(missing_ok=True)
    return export


def _row(out: Path, **changes: Any) -> dict[str, Any]:
    return {
        "device": "iPhone 17",
        "system": "iOS 26.1",
        "runtime": "Core ML",
        "accelerator": "all",
        "artifact": "dsan-m32_rgb_fp16.mlpackage",
        "sha256": read_manifest(out).artifacts[0].sha256,
        "latency_ms": {"p50": 4.1, "p90": 4.4},
        "runs": 50,
        "thermal": ["nominal", "nominal"],
        "peak_memory_mb": None,
        "psnr_vs_host": 78.2,
        "passed": True,
    } | changes


def _imported(out: Path, folder: Path, text: str) -> tuple[int, str]:
    result = folder / "result.json"
    result.write_text(text)
    done = CliRunner().invoke(main, ["bench", str(out), "--import", str(result)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def test_an_imported_result_is_kept_once(out: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert _imported(out, tmp_path, json.dumps(_row(out)))[0] == 0

    assert [row.device for row in read_rows(out)] == ["iPhone 17"]


def test_an_output_that_disagrees_is_exit_1(out: Path, tmp_path: Path) -> None:
    assert _imported(out, tmp_path, json.dumps(_row(out, passed=False)))[0] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "is not JSON"),
        ("[]", "the fields"),
        ("{}", "a row of nothing"),
        (json.dumps({"device": "iPhone"}), "the fields"),
    ],
)
def test_what_is_no_result_is_refused(text: str, words: str, out: Path, tmp_path: Path) -> None:
    code, said = _imported(out, tmp_path, text)

    assert code == 2
    assert words in said
    assert "fix: print it as the script of docs/ios.md does" in said
    assert not (out / DEVICES_NAME).exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("passed", "no"),
        ("passed", 1),
        ("latency_ms", [1]),
        ("latency_ms", {"p50": "fast"}),
        ("latency_ms", {"p50": float("nan")}),
        ("latency_ms", {"p50": -1}),
        ("sha256", 5),
        ("sha256", "cd" * 32),
        ("device", None),
        ("reason", 3),
        ("runs", 0),
        ("runs", True),
        ("thermal", "nominal"),
        ("thermal", [{}, {}]),
        ("peak_memory_mb", "31 MB"),
        ("psnr_vs_host", 10**400),
    ],
)
def test_a_field_of_another_kind_is_refused(
    field: str, value: Any, out: Path, tmp_path: Path
) -> None:
    code, said = _imported(out, tmp_path, json.dumps(_row(out, **{field: value})))

    assert code == 2
    assert field in said
    assert "expected: " in said
    assert "fix: " in said
    assert not (out / DEVICES_NAME).exists()


@pytest.mark.parametrize("held", ["5", "[5]", "{", '[{"device": "iPhone"}]'])
@pytest.mark.parametrize("command", ["bench", "validate", "report"])
def test_a_damaged_file_stops_whoever_reads_it(
    command: str, held: str, out: Path, tmp_path: Path
) -> None:
    (out / DEVICES_NAME).write_text(held)
    (tmp_path / "result.json").write_text(json.dumps(_row(out)))
    option = "--import" if command == "bench" else "--brackets"
    arguments = [command, str(out), option, str(tmp_path / "result.json")]

    done = CliRunner().invoke(main, arguments)

    assert (done.exit_code, "remove it, then measure again" in done.output) == (2, True)
    assert (out / DEVICES_NAME).read_text() == held
    with pytest.raises(ArtifactError):
        read_rows(out)


def test_every_field_has_its_kind() -> None:
    texts = {"device", "system", "runtime", "accelerator", "artifact", "reason"}

    assert {field.name for field in fields(DeviceRow)} == texts | set(_KINDS)
