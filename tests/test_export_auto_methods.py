"""Ranges chosen by what they cost at the output: per tensor, as plain data, in the artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from judged_toy import NETWORK

from pockethdr.brackets.save import write_bracket
from pockethdr.brackets.simulate import SimulationSettings as Settings
from pockethdr.brackets.simulate import simulate
from pockethdr.calibration.calibration import Calibration, CalibrationError
from pockethdr.cli import main
from pockethdr.errors import PocketError
from pockethdr.export import auto_methods
from pockethdr.export.auto_methods import recipe_by_output, units_of
from pockethdr.export.kernels import code
from pockethdr.export.manifest import read_manifest
from pockethdr.export.pipeline import export_model
from pockethdr.export.quantize import params_of
from pockethdr.export.read_back import stored_in
from pockethdr.export.recipe import RECIPES, Recipe, recipe_from_json
from pockethdr.export.rehearsal import Rehearsal, rehearsal
from pockethdr.export.simulate import Loss
from pockethdr.models.load import load_model

BASE = replace(RECIPES["hdr-ends"], float_first=False, method="mse")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small brackets with ground truth."""
    root = tmp_path_factory.mktemp("brackets")
    generator = torch.Generator().manual_seed(0)
    for number in range(2):
        hdr = torch.rand(160, 160, 3, generator=generator).numpy() ** 3
        write_bracket(simulate(hdr, Settings(), seed=number), root / f"s{number}")
    return root


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("net") / "net.py"
    path.write_text(NETWORK)
    return f"{path}:factory"


@pytest.fixture(scope="module")
def ready(scenes: Path, spec: str) -> Rehearsal:
    loaded = load_model(spec, domain="raw")
    folders = [scenes / "s0", scenes / "s1"]
    return rehearsal(loaded, BASE, brackets=folders, size=(64, 64), patches=1)


def test_each_tensor_gets_the_method_that_costs_least(
    ready: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = units_of(ready, BASE)
    assert units[0] == ("cat",)
    wanted = {units[0][0]: "minmax", units[-1][0]: "percentile"}

    def sensitivity(self: Any, recipe: Recipe, ranges: Any = None) -> Loss:
        wrong = sum(recipe.methods.get(n, recipe.method) != m for n, m in wanted.items())
        return Loss(-0.1 * wrong, -0.05)

    monkeypatch.setattr("pockethdr.export.simulate.Simulation.sensitivity", sensitivity)
    monkeypatch.setattr(auto_methods, "_alike", lambda first, second: False)
    found = recipe_by_output(ready, BASE)
    methods = {name: found.recipe.methods.get(name, found.recipe.method) for name in wanted}
    assert methods == wanted
    assert found.recipe.name == "hdr-ends-auto"
    assert (found.before, found.after) == (Loss(-0.2, -0.05), Loss(0.0, -0.05))
    assert recipe_from_json(found.recipe.to_json()) == found.recipe


def test_what_other_brackets_do_not_confirm_is_not_taken(
    ready: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sensitivity(self: Any, recipe: Recipe, ranges: Any = None) -> Loss:
        gain = (recipe.method != "mse") * (1 if self.scenes is ready.seen else -1)
        return Loss(-1 + 0.1 * gain, -0.05)

    monkeypatch.setattr("pockethdr.export.simulate.Simulation.sensitivity", sensitivity)
    monkeypatch.setattr(auto_methods, "_alike", lambda first, second: False)
    found = recipe_by_output(ready, BASE)
    assert found.after.worst < found.before.worst
    assert not found.helped
    assert found.recipe == BASE


def test_the_methods_are_in_the_artifact(scenes: Path, spec: str, tmp_path: Path) -> None:
    """Written into the manifest, and read back from the file: no range is foreign."""
    recipe = tmp_path / "ends.json"
    recipe.write_text('{"base": "hdr-ends", "float_first": false}')
    common = ["export", spec, "--brackets", scenes, "--size", "64x64", "--max-patches", "1"]
    common += ["--targets", "onnx", "--precisions", "int8", "--recipe"]

    def run(*words: object) -> Any:
        return CliRunner().invoke(main, [str(word) for word in (*common, *words)])

    auto, again = tmp_path / "auto", tmp_path / "again"
    result = run(recipe, "--method", "auto", "--out", auto)
    assert result.exit_code == 0, result.output
    assert "others" in result.output
    chosen = recipe_from_json((auto / "recipe.json").read_text())
    manifest = read_manifest(auto)
    assert recipe_from_json(manifest.recipe) == chosen
    assert manifest.artifacts[0].checks["ranges"]["foreign"] == []
    assert run(auto / "recipe.json", "--out", again).exit_code == 0
    assert read_manifest(again).artifacts[0].sha256 == manifest.artifacts[0].sha256
    counted = Calibration.load(auto / "calibration.json")
    whole, clipped = counted.ranges("minmax"), counted.ranges("percentile")
    name = next(name for name in whole if whole[name] != clipped[name])
    assert counted.ranges("minmax", methods={name: "percentile"}) == {**whole, name: clipped[name]}


def test_a_method_set_by_hand_is_the_code_in_the_file(
    scenes: Path, spec: str, tmp_path: Path
) -> None:
    def codes(recipe: Recipe, name: str) -> set[str]:
        export_model(
            load_model(spec, domain="raw"), out=tmp_path / name, recipe=recipe, size=(64, 64),
            targets=("onnx",), precisions=("int8",), bracket_folders=[scenes / "s0"], patches=1,
        )  # fmt: skip
        (artifact,) = read_manifest(tmp_path / name).artifacts
        return set(stored_in(tmp_path / name / str(artifact.file), "onnx").codes)

    plain = codes(BASE, "plain")
    by_hand = codes(replace(BASE, methods={"relu": "percentile"}), "by_hand")
    calibration = Calibration.load(tmp_path / "plain" / "calibration.json")
    given = {}
    for method in (BASE.method, "percentile"):
        found = calibration.ranges(method)["relu"]
        params = params_of(found.low, found.high, symmetric=False)
        given[method] = code(params.scale, params.zero, "onnx")
    assert plain - by_hand == {given["mse"]}
    assert by_hand - plain == {given["percentile"]}


def test_what_does_not_go_together_is_refused(ready: Rehearsal, spec: str, tmp_path: Path) -> None:
    def run(*words: object) -> Any:
        start = ["export", spec, "--brackets", tmp_path, "--out", tmp_path / "out"]
        return CliRunner().invoke(main, [str(word) for word in (*start, *words)])

    for words in (["--method", "auto"], ["--recipe", "hdr", "--method", "auto", "--max-loss", "1"]):
        result = run(*words)
        assert (result.exit_code, "Traceback" in result.output) == (2, False), result.output
    with pytest.raises(CalibrationError, match="not calibrated: nowhere"):
        ready.calibration.ranges("mse", methods={"nowhere": "minmax"})
    tuned: Any = SimpleNamespace(path=Path("tuned.safetensors"))
    with pytest.raises(PocketError, match="ranges that were trained"):
        recipe_by_output(replace(ready, tuned=tuned), BASE)
