"""The comparison of tiles with the whole sees a halo that is too small."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import pytest
from fuse_toy import exported

from pockethdr.brackets.read import read_bracket
from pockethdr.report.host import host
from pockethdr.runtime.artifact import deployed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import tiled

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def bracket():
    folder = Path(str(files("pockethdr.brackets") / "sample"))
    return tiled.cropped(read_bracket(folder, domain="raw"))


@pytest.mark.parametrize(("halo", "passed"), [(2, True), (0, False)])
def test_seams_are_seen(tmp_path, bracket, halo, passed):
    assert bracket.size() == tiled.FRAME
    parts = [
        deployed(exported(tmp_path / name, "raw", size, halo=halo))
        for name, size in (("tile", (64, 64)), ("whole", (240, 320)))
    ]
    count, db, seams = tiled.distance(*parts, bracket)
    assert count > 15
    row = tiled.Row("tiny", "onnx", "fp32", count, db, seams)
    assert row.passed is passed
    assert ("missed" in tiled.table([row])) is not passed


def test_networks_not_asked_for_keep_their_rows(tmp_path):
    rows = [tiled.Row(name, "tflite", "fp32", 4, None, 1.0) for name in tiled.NETWORKS[:2]]
    path = tmp_path / "tiled.json"
    assert tiled.kept(path, []) == []
    found = {"host": host(), "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(found))
    assert tiled.kept(path, [rows[0].network]) == rows[1:]
    path.write_text(json.dumps({**found, "host": {**host(), "cores": -1}}))
    assert tiled.kept(path, []) == []
