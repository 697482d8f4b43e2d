"""INT8 side by side: one table of several runs, and a run that was cut short goes on."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import export_toy as nets
import numpy as np
import pytest
from click.testing import CliRunner
from judged_toy import SIZE, Exported, bracket

from pockethdr.export.manifest import read_manifest, write_manifest
from pockethdr.export.targets import TARGETS
from pockethdr.runtime.latency import Latency

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import int8_speed
import int8_tools
from int8_quantisers import TOOLS, Given, integer_share, modelopt, tools_with

pytest.importorskip("onnxruntime")

SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))
ORT = {tool.name: tool for tool in TOOLS}["ONNX Runtime quantize_dynamic"]


class Interrupted(BaseException):
    """As Ctrl-C: no tool's failure."""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    made = Exported(tmp_path / "net")
    made.add("again.onnx", lambda tensor: tensor, precision="int8")
    out = made.write()
    write_manifest(replace(read_manifest(out), recipe={"name": "toy"}), out, overwrite=True)
    return out


def test_a_tool_is_measured_as_its_users_call_it(tmp_path: Path) -> None:
    """Ours keeps the last convolution in float, `litert_quantizer` by itself does not."""
    pytest.importorskip("litert_quantizer")
    TARGETS["tflite"].build(nets.toy(), nets.frames(), "fp32", tmp_path / "fp32.tflite")
    given = Given(tmp_path / "fp32.tflite", tmp_path, Any, [])  # type: ignore[arg-type]
    tool = {tool.name: tool for tool in TOOLS}["litert_quantizer dynamic"]
    tool.make(given, tmp_path / "theirs.tflite")
    ours = TARGETS["tflite"].build(nets.toy(), nets.frames(), "dynint8", tmp_path / "ours.tflite")
    theirs = integer_share(tmp_path / "theirs.tflite", "tflite", "dynint8")
    assert ours["int8_mac_share"] < theirs == 1


def run(out: Path, docs: Path, *more: object) -> list[dict[str, Any]]:
    docs.mkdir(exist_ok=True)
    arguments = [out, "--cache", docs, "--brackets", SAMPLE, "--docs", docs, "--tiles", 1, *more]
    result = CliRunner().invoke(
        int8_tools.main, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads((docs / "int8.json").read_text())["rows"]
    return rows


def test_each_row_is_kept_and_only_what_is_missing_is_made(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    fails = True

    def quantised(given: Given, path: Path) -> None:
        made.append("real")
        ORT.make(given, path)

    def failing(given: Given, path: Path) -> None:
        made.append("failing")
        if fails:
            raise RuntimeError("no such operator")
        raise Interrupted

    absent = replace(ORT, name="absent", needs="not_there", install="pip install it")
    tools = (replace(ORT, make=quantised), replace(ORT, name="failing", make=failing), absent)
    monkeypatch.setattr(int8_tools, "tools_with", lambda _: tools)
    monkeypatch.setattr(int8_tools, "held_out", lambda *_: [bracket("a"), bracket("bc")])
    docs = tmp_path / "docs"

    ours, real, failed, skipped = run(out, docs)
    assert (ours["ours"], ours["tool"]) == (True, "pockethdr, recipe toy")
    assert real["int8_mac_share"] == 1
    assert real["psnr_mu_vs_reference"] > 30
    assert failed["failed"] == "RuntimeError: no such operator"
    assert skipped["skipped"] == "not_there is not installed; pip install it"
    page = (docs / "int8.md").read_text()
    assert "failed: RuntimeError: no such operator" in page
    assert "mean of 2 simulated brackets" in page

    fails = False
    with pytest.raises(Interrupted):
        run(out, docs)
    assert made == ["real", "failing", "failing"]  # the figure stood, the failure was tried again
    assert len(json.loads((docs / "int8.json").read_text())["rows"]) == 4


def test_rows_of_other_networks_stay_and_of_other_brackets_go(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_tools, "tools_with", lambda _: ())
    monkeypatch.setattr(int8_tools, "held_out", lambda *_: [bracket("a")])
    docs = tmp_path / "docs"
    docs.mkdir()
    other = {
        "model": "other", "target": "onnx", "precision": "int8", "ours": True, "tool": "pockethdr",
        "loss_mu_db": -0.1, "loss_l_db": 0.1, "psnr_mu_vs_reference": 44.0, "latency_ms": None,
        "int8_mac_share": 0.9,
    }  # fmt: skip
    rows = [other | {"brackets": 1}, other | {"brackets": 24, "model": "of 24"}]
    (docs / "int8.json").write_text(json.dumps({"rows": rows}))
    assert {row["model"] for row in run(out, docs)} == {"other", "net"}
    assert "out/net out/other" in json.loads((docs / "int8.json").read_text())["command"]


def test_int8_is_timed_against_fp32_in_turn(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[tuple[str, int]] = []

    def timing(path: Path, *, threads: int) -> Latency:
        timed.append((path.name, threads))
        return Latency("", 3.0 if path.name == "good.onnx" else 2.0, 0, 0, threads, 1)

    monkeypatch.setattr(int8_speed, "measure_artifact", timing)
    monkeypatch.setattr(int8_tools, "tools_with", lambda _: ())
    monkeypatch.setattr(int8_tools, "held_out", lambda *_: [bracket("a")])
    docs = tmp_path / "docs"
    run(out, docs, "--latency")
    assert timed[:2] == [("good.onnx", 1), ("again.onnx", 1)]
    found = json.loads((docs / "int8.json").read_text())["speed"]
    assert [(row["threads"], row["times"]) for row in found] == [(1, 1.5), (2, 1.5)]
    run(out, docs)
    assert "| net | onnx | 2 | 3.0 | 2.0 | 1.50 |" in (docs / "int8.md").read_text()


def test_modelopt_runs_in_an_interpreter_of_its_own(out: Path, tmp_path: Path) -> None:
    manifest = read_manifest(out)
    tile = [np.zeros((1, 8, SIZE, SIZE), np.float32)] * 3
    given = Given(out / "good.onnx", out, manifest, [tile])
    (own,) = (tool for tool in tools_with(Path("/no/python")) if tool.name == "ModelOpt")
    with pytest.raises(FileNotFoundError, match="/no/python"):
        own.make(given, tmp_path / "model.onnx")
    if find_spec("modelopt") is None:
        with pytest.raises(RuntimeError, match="No module named 'modelopt'"):
            modelopt(given, tmp_path / "model.onnx")


def test_targets_are_shown_against_each_other_once():
    row = {"model": "net", "ours": True, "precision": "int8"}
    near = {"mean": 62.5, "least": 61.2}
    rows = [
        row | {"target": "tflite", "agreement_db": {"onnx": near, "coreml": near}},
        row | {"target": "onnx", "agreement_db": {"tflite": near}},
        row | {"target": "tflite", "ours": False},
    ]
    table = int8_tools.agreement_table(rows)
    assert table.count("| net |") == 1  # coreml has no row of its own here
    assert "| net | onnx, tflite | 62.5 | 61.2 |" in table
