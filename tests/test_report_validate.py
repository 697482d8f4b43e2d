"""A small network as ONNX, judged: the gate lets the true artifact through and no other."""

import copy
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from judged_toy import Exported, bracket

from pockethdr.brackets.layout import Found
from pockethdr.commands.exported import print_manifest
from pockethdr.errors import ArtifactError, BracketError, PocketError
from pockethdr.export.manifest import Artifact, ContextRecord, FileRecord, write_manifest
from pockethdr.files import sha256_of
from pockethdr.report import judging
from pockethdr.report import validate as validate_module
from pockethdr.report.report import write_report
from pockethdr.report.row import Detail, Row
from pockethdr.report.terminal import table
from pockethdr.report.thresholds import Thresholds, judge
from pockethdr.report.validate import _of_tiles, evaluate, validate
from pockethdr.runtime.agreement import finite_db

ISSUE_FIELDS = """
    model domain target precision artifact sha256 size_bytes runtime executed reason brackets
    psnr_mu_vs_reference psnr_mu psnr_l ssim_mu ssim_l loss_mu_db passed latency_ms threads
    peak_memory_mb int8_mac_share undelegated_ops
"""


def _found(root: Path, *, domain: str) -> Found:
    return Found((root,), ("other: of rgb",))


@pytest.fixture
def scenes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Two brackets in memory behind two folder names; the reader has tests of its own."""
    made = {"one": bracket("one"), "other": bracket("other", truth=False)}
    monkeypatch.setattr(validate_module, "search", _found)
    monkeypatch.setattr(judging, "read_bracket", lambda path, domain: made[path.name])
    return [tmp_path / name for name in made]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    exported = Exported(tmp_path_factory.mktemp("out"))
    exported.add("scaled.onnx", lambda tensor: tensor * np.float32(1.02))
    exported.add("swapped.onnx", lambda tensor: tensor[::-1].copy(), precision="int8")
    return exported


@pytest.fixture
def exported(template: Exported) -> Exported:
    template.artifacts = template.artifacts[:3]
    template.write()
    return template


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency has one test here; elsewhere it would only cost time."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise PocketError("no time")

    monkeypatch.setattr(validate_module, "measure_artifact", refuse)


def test_the_gate_tells_good_from_bad(
    exported: Exported, scenes: list[Path], untimed: None
) -> None:
    good, scaled, swapped = validate(exported.out, scenes, threads=1)
    assert good.passed is True
    assert good.psnr_mu_vs_reference is not None
    assert good.psnr_mu_vs_reference > 90
    assert scaled.passed is False
    assert scaled.psnr_mu_vs_reference < 60  # type: ignore[operator]
    assert swapped.passed is False
    assert swapped.psnr_mu_vs_reference < 40  # type: ignore[operator]
    assert good.brackets == ("one", "other")


def test_other_gates_tell_otherwise(exported: Exported, scenes: list[Path], untimed: None) -> None:
    lenient, strict = Thresholds(fp32=30, loss=9), Thresholds(fp32=150)
    passed = {
        bounds: [row.passed for row in validate(exported.out, scenes, thresholds=bounds)]
        for bounds in (lenient, strict)
    }
    assert passed[lenient][:2] == [True, True]
    assert passed[strict] == [False, False, False]


def test_the_figures_are_those_of_a_plain_comparison(
    exported: Exported, scenes: list[Path], untimed: None
) -> None:
    """Against µ-law PSNR written out here, on the network run over the whole frame at once."""
    evaluation = evaluate(exported.out, scenes, threads=1)
    scene = bracket("one")
    with torch.no_grad():
        frames = [torch.from_numpy(f) for f in scene.inputs()]
        reference = exported.net(*frames)[0].numpy().astype(np.float64)
        off = copy.deepcopy(exported.net)
        off.last.weight *= 1.02
        off.last.bias *= 1.02
        scaled = off(*frames)[0].numpy().astype(np.float64)

    def toned(x: np.ndarray) -> np.ndarray:
        return np.log(1 + 5000 * x) / np.log(5001)

    def decibels(a: np.ndarray, b: np.ndarray) -> float:
        return float(-10 * np.log10(np.mean((a - b) ** 2)))

    detail = next(d for d in evaluation.details[2:] if d.bracket == "one")
    against = decibels(toned(scaled), toned(reference))
    assert detail.psnr_mu_vs_reference == pytest.approx(against, abs=1e-2)
    truth = scene.ground_truth.astype(np.float64)  # type: ignore[union-attr]
    assert detail.psnr_mu == pytest.approx(decibels(toned(scaled), toned(truth)), abs=1e-2)
    assert detail.reference_psnr_l == pytest.approx(decibels(reference, truth), abs=1e-2)
    assert detail.loss_mu_db == pytest.approx(detail.psnr_mu - detail.reference_psnr_mu)  # type: ignore[operator]


def test_row_has_the_fields_that_were_promised() -> None:
    names = [f.name for f in fields(Row)]
    more = ("loss_l_db", "arm", "foreign", "missing", "planned_int8_mac_share")
    assert [n for n in names if n not in more] == ISSUE_FIELDS.split()


def test_json_holds_rows_details_host_and_bounds(
    exported: Exported, scenes: list[Path], untimed: None, tmp_path: Path
) -> None:
    rows = validate(exported.out, scenes, threads=1, json_path=tmp_path / "judged.json")
    data = json.loads((tmp_path / "judged.json").read_text())
    assert set(data) == {
        *("rows", "devices", "details", "brackets", "left_out"),
        *("host", "manifest", "thresholds", "command"),
    }
    assert [each["bracket"] for each in data["brackets"]] == ["one", "other"]
    assert data["left_out"] == ["other: of rgb"]
    assert data["thresholds"] == {"fp32": 60, "fp16": 60, "int8": 35, "dynint8": 44, "loss": 0.5}
    assert len(data["details"]) == 6
    assert data["rows"][0]["psnr_mu_vs_reference"] == rows[0].psnr_mu_vs_reference
    assert data["rows"][0]["latency_ms"] is None
    assert "latency not measured: no time" in data["rows"][0]["reason"]
    without_truth = next(d for d in data["details"] if d["bracket"] == "other")
    assert without_truth["psnr_mu"] is None
    assert without_truth["loss_mu_db"] is None


def test_reports_are_written_and_equal_twice(
    exported: Exported, scenes: list[Path], untimed: None
) -> None:
    found = write_report(exported.out, scenes, threads=1)
    written = [exported.out / name for name in ("report.json", "report.html")]
    first = [path.read_bytes() for path in written]
    assert json.loads(first[0])["rows"][1]["passed"] is False
    assert len(found.crops) == 6
    assert first[1].count(b"data:image/png;base64,") == 18
    assert [each.bracket for each in found.overviews] == [scene.name for scene in scenes]
    assert first[1].count(b"data:image/jpeg;base64,") == 2 * len(scenes)
    write_report(exported.out, scenes, threads=1)
    assert [path.read_bytes() for path in written] == first


def test_latency_and_memory_are_measured(exported: Exported, scenes: list[Path]) -> None:
    exported.artifacts = exported.artifacts[:1]
    exported.write()
    (row,) = validate(exported.out, scenes[:1], threads=1)
    assert row.latency_ms is not None
    assert 0 < row.latency_ms["p50"] <= row.latency_ms["p90"] <= row.latency_ms["p99"]
    assert row.peak_memory_mb is not None
    assert row.peak_memory_mb > 10
    assert row.threads == 1
    assert row.reason == ""


def test_an_artifact_that_does_not_load_fails_with_its_reason(
    exported: Exported, scenes: list[Path], untimed: None
) -> None:
    (exported.out / "broken.onnx").write_bytes(b"not a network")
    exported.record("broken.onnx")
    exported.write()
    row = validate(exported.out, scenes, threads=1)[-1]
    assert (row.executed, row.passed, row.psnr_mu_vs_reference) == (True, False, None)
    assert "does not run" in row.reason


def test_an_artifact_changed_after_export_fails(
    exported: Exported, scenes: list[Path], untimed: None
) -> None:
    exported.artifacts[0] = replace(exported.artifacts[0], sha256="0" * 64)
    exported.write()
    row = validate(exported.out, scenes, threads=1)[0]
    exported.artifacts[0] = replace(
        exported.artifacts[0], sha256=sha256_of(exported.out / "good.onnx")
    )
    assert row.passed is False
    assert "not what was exported" in row.reason


def test_nan_from_an_artifact_fails(exported: Exported, scenes: list[Path], untimed: None) -> None:
    exported.add("nan.onnx", lambda tensor: tensor * np.float32("nan"))
    exported.write()
    row = validate(exported.out, scenes, threads=1)[-1]
    assert (row.passed, row.psnr_mu_vs_reference) == (False, None)
    assert "returns NaN or infinite values on one" in row.reason


def test_what_this_host_cannot_build_or_run_is_skipped_with_its_reason(
    exported: Exported, scenes: list[Path], untimed: None
) -> None:
    exported.artifacts.append(
        Artifact("coreml", "fp16", None, skipped="coremltools is missing; pip install it")
    )
    (exported.out / "net.plan").write_bytes(b"a plan")
    exported.record("net.plan", target="tensorrt", precision="fp16")
    exported.write()
    *_, coreml, tensorrt = validate(exported.out, scenes, threads=1)
    assert (coreml.executed, coreml.passed, coreml.artifact) == (False, None, None)
    assert coreml.reason == "coremltools is missing; pip install it"
    if tensorrt.executed:
        pytest.skip("a GPU answers here")
    assert (tensorrt.passed, tensorrt.psnr_mu_vs_reference) == (None, None)
    assert tensorrt.reason


def test_weights_that_are_not_of_the_export_stop_it(
    template: Exported, scenes: list[Path], tmp_path: Path
) -> None:
    manifest = replace(template.manifest(), weights=FileRecord("weights.safetensors", "0" * 64))
    write_manifest(manifest, tmp_path)
    with pytest.raises(ArtifactError, match="is missing"):
        validate(tmp_path, scenes)
    (tmp_path / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="not what was exported"):
        validate(tmp_path, scenes)
    with pytest.raises(ArtifactError, match="no manifest"):
        validate(tmp_path / "nowhere", scenes)
    write_manifest(template.manifest(), tmp_path / "sizes" / "64x64")
    with pytest.raises(ArtifactError, match="no manifest") as refused:
        validate(tmp_path / "sizes", scenes)
    assert refused.value.fix == f"name one of its sizes: {tmp_path / 'sizes' / '64x64'}"


def test_tiles_of_a_network_without_a_halo_are_said_to_be_another_picture(
    exported: Exported, scenes: list[Path], untimed: None
) -> None:
    write_manifest(replace(exported.manifest(), halo=None), exported.out, overwrite=True)
    good, *_ = validate(exported.out, scenes, threads=1)
    assert "judged tile by tile" in good.reason


def test_every_tile_moves_the_bar(exported: Exported, scenes: list[Path], untimed: None) -> None:
    told: list[tuple[str, float]] = []
    evaluate(exported.out, scenes, progress=lambda what, done, _: told.append((what, done)))
    steps = [done for _, done in told]
    assert steps == sorted(steps)
    until_the_reference = [what for what, _ in told].index("reference on one")
    assert until_the_reference > 2
    assert told[until_the_reference] == ("reference on one", 1)
    assert told[0][0] == ""
    assert 0 < told[0][1] < 1


def test_a_bracket_below_a_window_of_ssim_is_named(
    exported: Exported, tmp_path: Path, untimed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {truth: bracket("tiny", truth=truth, size=(6, 40)) for truth in (True, False)}
    monkeypatch.setattr(validate_module, "search", _found)
    monkeypatch.setattr(judging, "read_bracket", lambda path, domain: made[True])
    with pytest.raises(BracketError, match="tiny: 6×40 pixels, too few for SSIM"):
        evaluate(exported.out, [tmp_path], threads=1)
    monkeypatch.setattr(judging, "read_bracket", lambda path, domain: made[False])
    assert evaluate(exported.out, [tmp_path], threads=1).rows[0].psnr_mu_vs_reference


def test_no_bracket_is_an_error(exported: Exported) -> None:
    with pytest.raises(BracketError, match="no bracket"):
        validate(exported.out, [])


def test_judging_again_by_other_bounds() -> None:
    row = a_row(psnr_mu_vs_reference=45.0, precision="int8")
    assert judge(row) is True
    assert judge(row, Thresholds(int8=50)) is False
    assert judge(replace(row, precision="fp16")) is False
    assert judge(replace(row, executed=False)) is None
    assert judge(replace(row, psnr_mu_vs_reference=None)) is False
    assert judge(replace(row, loss_mu_db=-0.4, loss_l_db=0.2)) is True
    assert judge(replace(row, loss_mu_db=0.2, loss_l_db=-0.6)) is False
    assert judge(replace(row, loss_l_db=-0.4), Thresholds(loss=0.1)) is False
    assert judge(replace(row, foreign=())) is True
    assert judge(replace(row, foreign=("conv: other scales",))) is False
    assert judge(replace(row, missing=("conv",))) is False
    assert judge(replace(row, int8_mac_share=0.5, planned_int8_mac_share=0.5)) is True
    assert judge(replace(row, int8_mac_share=0.4, planned_int8_mac_share=0.5)) is False
    assert judge(replace(row, int8_mac_share=None, planned_int8_mac_share=0.5)) is False
    with pytest.raises(PocketError, match="no threshold for 'int4'"):
        judge(replace(row, precision="int4"))


def test_a_row_of_an_older_report_is_read_and_judged() -> None:
    row = a_row(psnr_mu_vs_reference=45.0, precision="int8", int8_mac_share=0.5, foreign=("conv",))
    younger = ("missing", "planned_int8_mac_share")
    older = {name: value for name, value in row.to_json().items() if name not in younger}
    assert Row.from_json(older) == row
    assert judge(Row.from_json({**older, "foreign": None})) is True


def test_identical_images_are_a_finite_figure() -> None:
    assert finite_db(float("inf")) == 200
    assert finite_db(43.0) == 43
    with pytest.raises(ValueError, match="not a number"):
        finite_db(float("nan"))
    assert Detail("scene", "onnx", "fp32", 200.0, 200.0).identical


def test_terminal_table_says_what_was_not_measured() -> None:
    from rich.console import Console

    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table([a_row(), a_row(executed=False, passed=None, reason="no GPU answers")]))
    text = console.export_text()
    assert "pass" in text
    assert "not run" in text
    assert "no GPU answers" in text
    assert "45.00" in text


def a_row(**changes: object) -> Row:
    values: dict[str, object] = dict.fromkeys(f.name for f in fields(Row))
    values |= {"model": "net", "domain": "raw", "target": "onnx", "precision": "int8"}
    values |= {"executed": True, "reason": "", "brackets": ("one",), "passed": True, "threads": 1}
    values |= {"psnr_mu_vs_reference": 45.0}
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def test_extremes_from_thumbnails_are_told_of(
    exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ContextRecord(4, ("amax",), extremes=("net.py:12",))
    manifest = replace(exported.manifest(), context=record)
    print_manifest(manifest, exported.out)
    for said in (_of_tiles(manifest), capsys.readouterr().out):
        assert "(net.py:12) are taken from thumbnails" in said
    assert _of_tiles(replace(manifest, context=replace(record, extremes=()))) == ""
