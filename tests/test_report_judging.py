"""Brackets judged by Ray's workers: the rows of one process, whatever happens to a worker."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from judged_toy import NETWORK, Exported

from pockethdr.brackets.simulate import SimulationSettings, simulate, write_bracket
from pockethdr.cli import main
from pockethdr.cluster import LOCAL
from pockethdr.errors import PocketError
from pockethdr.report import validate as validate_module
from pockethdr.report.validate import evaluate

#: Whoever makes the network first is killed while doing so.
KILLER = """
import os, pathlib, signal
_told = pathlib.Path(__file__).with_name("killed")
if not _told.exists():
    _told.touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    exported = Exported(tmp_path_factory.mktemp("out"))
    exported.add("swapped.onnx", lambda tensor: tensor[::-1].copy(), precision="int8")
    exported.add("nan.onnx", lambda tensor: tensor * np.float32("nan"))
    (exported.out / "broken.onnx").write_bytes(b"not a network")
    exported.record("broken.onnx")
    return exported.write()


@pytest.fixture(scope="module")
def brackets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brackets")
    for seed in range(4):
        scene = np.random.default_rng(seed).uniform(0.05, 1, (140, 120, 3)).astype(np.float32)
        write_bracket(simulate(scene, SimulationSettings(), seed=seed), folder / f"scene{seed}")
    return folder


def test_brackets_of_one_name_are_told_apart(out: Path, brackets: Path, tmp_path: Path) -> None:
    for day, scene in (("monday", "scene0"), ("tuesday", "scene1")):
        shutil.copytree(brackets / scene, tmp_path / "copied" / day / "garden")
    found = evaluate(out, [tmp_path / "copied"], threads=1, crops=True)
    names = ["monday/garden", "tuesday/garden"]
    assert [each.bracket for each in found.brackets] == names
    assert [each.bracket for each in found.overviews] == names
    assert sorted({crop.bracket for crop in found.crops}) == names
    assert found.rows[0].brackets == tuple(names)


def test_the_rows_are_those_of_one_process_though_a_worker_dies(
    out: Path, brackets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'pockethdr[scale]'")
    monkeypatch.setattr(validate_module, "measure_artifact", _untimed)
    (out / "net.py").write_text(KILLER + NETWORK)
    told: list[str] = []

    def found(ray: str | None) -> Any:
        evaluation = evaluate(
            out,
            [brackets],
            threads=1,
            crops=True,
            ray=ray,
            progress=lambda what, *_: told.extend([what] if what else []),
        )
        return evaluation, json.loads(evaluation.to_json())

    (spread, spread_json), spread_told = found(LOCAL), sorted(told)
    told.clear()
    (alone, alone_json), alone_told = found(None), sorted(told)
    assert (out / "killed").exists()
    assert spread_json == alone_json
    assert spread.crops == alone.crops
    assert spread_told == alone_told
    assert [row.passed for row in alone.rows] == [True, False, False, False]
    assert alone.rows[0].brackets == tuple(f"scene{seed}" for seed in range(4))
    assert alone.rows[2].reason == "returns NaN or infinite values on scene0"


def test_an_unreachable_cluster_is_the_users_to_mend(out: Path, brackets: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'pockethdr[scale]'")
    words = ["validate", out, "--brackets", brackets, "--ray", "127.0.0.1:1"]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in result.output
    assert "Traceback" not in result.output


def _untimed(*_: object, **__: object) -> None:
    raise PocketError("no time")
