"""Several judged exports on one page, and refusals of those whose figures do not compare."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from judged_toy import SIZE, Exported, bracket

from pockethdr.brackets.layout import Found
from pockethdr.cli import main
from pockethdr.errors import ArtifactError
from pockethdr.report import compare, judging, panels, validate
from pockethdr.report.compare import read_judged, write_comparison
from pockethdr.report.panels import strip
from pockethdr.report.report import write_report
from pockethdr.runtime.fuse import fuse

SCENE = bracket("one", size=(SIZE, SIZE))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two exports of the toy, the second also with an artifact that fails."""
    outs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate, "search", lambda root, domain: Found((root,), ("other: of rgb",)))
        patch.setattr(judging, "read_bracket", lambda path, domain: SCENE)
        for model in ("first", "second"):
            made = Exported(tmp_path_factory.mktemp(model), model)
            if model == "second":
                made.add("dim.onnx", lambda tensor: tensor * np.float32(0.5), precision="fp16")
            write_report(made.write(), [Path("one")], threads=1)
            outs.append(made.out)
    return outs


@pytest.fixture
def copy_of(judged: list[Path], tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """A folder with the first report, changed."""

    def make(changes: dict[str, Any]) -> Path:
        data = json.loads((judged[0] / "report.json").read_text())
        (tmp_path / "report.json").write_text(json.dumps({**data, **changes}))
        return tmp_path

    return make


def test_the_page_sets_all_networks_side_by_side(
    judged: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "find_brackets", lambda root, domain: [root])
    monkeypatch.setattr(compare, "read_bracket", lambda path, domain: SCENE)
    page = tmp_path / "compare.html"
    rows = write_comparison(judged, page, brackets=[Path("one")], command="again")
    assert [(row.model, row.name, row.passed) for row in rows] == [
        ("first", "onnx fp32", True),
        ("second", "onnx fp32", True),
        ("second", "onnx fp16", False),
    ]
    text = page.read_text()
    assert "2 networks. 1 of 3 artifacts fails: second onnx fp16 at " in text
    assert text.count('<circle class="net0 ') == 1
    assert text.count('<circle class="net1 ') == 2
    assert "<script" not in text
    assert "second, onnx fp16" in text


def test_panels_show_the_hardest_place_of_each(judged: list[Path]) -> None:
    made = strip(SCENE, judged)
    titles = [panel.title for panel in made.panels]
    networks = ["first, onnx fp32", "second, onnx fp16"]
    assert titles == ["reference frame", "merge", *networks, "ground truth"]
    first, second = (panel.picture for panel in made.panels[2:4])
    assert first != second
    assert made.panels[-1].psnr_mu is None
    assert all(panel.psnr_mu is not None for panel in made.panels[:-1])


def test_exports_of_one_network_are_told_apart_and_what_fails_is_passed_over(
    judged: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "another" / judged[0].name
    shutil.copytree(judged[0], other)
    made = strip(SCENE, [judged[0], other])
    titles = [f"first in {out}, onnx fp32" for out in (judged[0], other)]
    assert [panel.title for panel in made.panels[2:-1]] == titles

    def fails(path: Path, bracket: Any) -> Any:
        if path.name == "dim.onnx":
            raise ArtifactError("returns NaN")
        return fuse(path, bracket)

    monkeypatch.setattr(panels, "fuse", fails)
    titles = [panel.title for panel in strip(SCENE, judged).panels]
    assert titles[2:-1] == ["first, onnx fp32", "second, onnx fp32"]


def test_without_ground_truth_there_is_no_figure(judged: list[Path]) -> None:
    blind = bracket("blind", truth=False, size=(SIZE, SIZE))
    shown = strip(blind, judged).panels
    assert "ground truth" not in [panel.title for panel in shown]
    assert {panel.psnr_mu for panel in shown} == {None}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"host": {"cpu": "another"}}, "different hosts"),
        ({"thresholds": {"int8": 20.0}}, "thresholds"),
        ({"details": []}, "brackets"),
    ],
)
def test_figures_that_do_not_compare_are_refused(
    judged: list[Path], copy_of: Any, tmp_path: Path, changes: dict[str, Any], word: str
) -> None:
    other = copy_of(changes)
    with pytest.raises(ArtifactError, match=word):
        write_comparison([judged[0], other], tmp_path / "no.html")
    assert not (tmp_path / "no.html").exists()


def test_brackets_are_known_by_more_than_their_names(
    judged: list[Path], copy_of: Any, tmp_path: Path
) -> None:
    [detail] = json.loads((judged[0] / "report.json").read_text())["details"]
    other = copy_of({"details": [{**detail, "bracket_sha256": "ab" * 32}]})

    with pytest.raises(ArtifactError, match=r"different contents of brackets: .*'abababababab…"):
        write_comparison([judged[0], other], tmp_path / "no.html")


def test_a_report_that_does_not_know_its_brackets_contents_still_compares(
    judged: list[Path], copy_of: Any, tmp_path: Path
) -> None:
    [detail] = json.loads((judged[0] / "report.json").read_text())["details"]
    del detail["bracket_sha256"]

    assert write_comparison([judged[0], copy_of({"details": [detail]})], tmp_path / "page.html")


def test_other_threads_do_not_compare(judged: list[Path], copy_of: Any, tmp_path: Path) -> None:
    [row] = json.loads((judged[0] / "report.json").read_text())["rows"]

    with pytest.raises(ArtifactError, match=r"different numbers of threads: 8 and 1"):
        write_comparison([judged[0], copy_of({"rows": [{**row, "threads": 8}]})], tmp_path / "no")


def test_what_is_fed_and_judged_by_makes_a_brackets_sha256() -> None:
    known = judging._sha256(SCENE)

    assert known == judging._sha256(bracket("one", size=(SIZE, SIZE)))
    for other in (
        replace(SCENE, ratios=(1.0, 4.0, 15.0)),
        replace(SCENE, ground_truth=SCENE.ground_truth * np.float32(0.5)),
        replace(SCENE, frames=SCENE.frames[:2] + SCENE.frames[:1]),
    ):
        assert judging._sha256(other) != known


def test_a_report_of_nothing_is_refused(copy_of: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no artifact was judged"):
        write_comparison([copy_of({"rows": []})], tmp_path / "no.html")


def test_a_folder_without_report_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["compare", str(tmp_path), "--html", str(tmp_path / "x")])
    assert result.exit_code == 2
    assert "pockethdr report" in result.output


@pytest.mark.parametrize("text", ["", "[]", '{"rows": [{}]}', "\x00"])
def test_a_damaged_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ArtifactError, match="not a readable report"):
        read_judged(tmp_path)


@pytest.mark.parametrize("change", [{"precision": 'int8"/><script>'}, {"target": "</td><b>"}])
def test_a_report_of_what_does_not_exist_is_refused(
    judged: list[Path], copy_of: Callable[[dict[str, Any]], Path], change: dict[str, str]
) -> None:
    rows = json.loads((judged[0] / "report.json").read_text())["rows"]
    with pytest.raises(ArtifactError, match="not a readable report"):
        read_judged(copy_of({"rows": [{**rows[0], **change}]}))


def test_keys_of_colours_are_silent(judged: list[Path], tmp_path: Path) -> None:
    write_comparison(judged, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.count('<svg width="12"') == text.count('aria-hidden="true"') == 4
    assert "What the columns say" in text
