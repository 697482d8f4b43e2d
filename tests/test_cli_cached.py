"""A judged demo is taken up again only while nothing that it was made from has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from pockethdr.commands.cached import is_judged, remember
from pockethdr.export.manifest import Artifact, Manifest, write_manifest
from pockethdr.report.row import Row

ROW = Row(
    model="toy",
    domain="raw",
    target="onnx",
    precision="fp32",
    artifact="toy.onnx",
    sha256="0",
    size_bytes=1,
    runtime="none",
    executed=True,
    reason="",
    brackets=("a", "b"),
    psnr_mu_vs_reference=60.5,
    psnr_mu=None,
    psnr_l=None,
    ssim_mu=None,
    ssim_l=None,
    loss_mu_db=None,
    loss_l_db=None,
    passed=True,
    latency_ms={"p50": 1.0},
    threads=1,
    peak_memory_mb=None,
    int8_mac_share=None,
    undelegated_ops=None,
)


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Path, Path]:
    """An output folder with its report, and the brackets it was judged on."""
    out, brackets = tmp_path / "out", tmp_path / "brackets"
    brackets.mkdir()
    (brackets / "a.png").write_bytes(b"pixels")
    manifest = Manifest(
        model="toy",
        spec="toy",
        domain="raw",
        size=(8, 8),
        halo=0,
        multiple=1,
        channels=8,
        output_channels=4,
        weights=None,
        graph_sha256="0",
        calibration=None,
        artifacts=(Artifact("onnx", "fp32", "toy.onnx"),),
        recipe={},
        rewrites=(),
        refusals=(),
        versions={},
        command="",
    )
    write_manifest(manifest, out)
    (out / "toy.onnx").write_bytes(b"weights")
    (out / "report.json").write_text(json.dumps({"rows": [ROW.to_json()]}))
    (out / "report.html").write_text("page")
    return out, brackets


def test_nothing_is_remembered_of_a_fresh_folder(judged: tuple[Path, Path]) -> None:
    assert not is_judged(*judged)


def test_a_report_of_the_same_is_remembered(judged: tuple[Path, Path]) -> None:
    remember(*judged)
    assert is_judged(*judged)


@pytest.mark.parametrize("room", ["", "commands", "export", "runtime.mil", "report"])
def test_our_own_code_counts(
    judged: tuple[Path, Path], room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(*judged)
    changed = Path(*import_module(f"pockethdr.{room}".rstrip(".")).__path__)
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(path) + b"#" * (path.parent == changed)
    )
    assert not is_judged(*judged)


@pytest.mark.parametrize(
    "change",
    [
        lambda out, brackets: (out / "toy.onnx").write_bytes(b"others"),
        lambda out, brackets: (out / "report.html").unlink(),
        lambda out, brackets: (out / "report.json").write_text("{}"),
        lambda out, brackets: (brackets / "a.png").write_bytes(b"others"),
        lambda out, brackets: (brackets / "b.png").write_bytes(b"more"),
    ],
)
def test_any_change_is_judged_anew(
    judged: tuple[Path, Path], change: Callable[[Path, Path], object]
) -> None:
    remember(*judged)
    change(*judged)
    assert not is_judged(*judged)
