"""A budget chooses the tile, the prediction holds, and what fits nothing is refused."""

from __future__ import annotations

import functools
import json
import math
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from fuse_toy import exported

from pockethdr.errors import ArtifactError, BracketError, PocketError
from pockethdr.files import sha256_of
from pockethdr.runtime import memory
from pockethdr.runtime.fuse import Fuser
from pockethdr.runtime.memory import Usage, measured, parsed, within
from pockethdr.runtime.runner import open_runner

pytest.importorskip("onnx")
SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))
SIZES = (256, 512, 768)

measured_once = functools.cache(measured)

FUSE = """
import json, sys
from pockethdr.runtime.fuse import Fuser
from pockethdr.runtime.latency import peak_memory_mb
from pockethdr.runtime.write import save_hdr
with Fuser(sys.argv[1], memory=sys.argv[3]) as fuser:
    image = fuser.fuse(sys.argv[2])
print(json.dumps({"peak": peak_memory_mb(), "tiles": image.tiles, "notes": image.notes}))
"""


@pytest.fixture(autouse=True)
def _measured_once(monkeypatch):
    monkeypatch.setattr(memory, "measured", measured_once)


@pytest.fixture(scope="module")
def sizes(tmp_path_factory):
    """The toy at three sizes, as `export --size … --size …` lays them out, and a stranger."""
    root = tmp_path_factory.mktemp("sizes")
    (root / "notes").mkdir()
    stranger = exported(root / "other", "raw", (128, 128))
    manifest = stranger.with_name("manifest.json")
    manifest.write_text(manifest.read_text().replace('"spec": "tiny"', '"spec": "other"'))
    return [exported(root / f"{side}x{side}", "raw", (side, side)) for side in SIZES]


@pytest.mark.parametrize(
    ("text", "mib"),
    [("512MB", 512), ("0.5 GB", 512), ("1GiB", 1024), ("300m", 300), ("64", 64), ("2048kb", 2)],
)
def test_amounts(text, mib):
    assert parsed(text) == mib


@pytest.mark.parametrize("text", ["", "lots", "0MB", "-5MB", "5TB", "1e3MB"])
def test_what_is_no_amount(text):
    with pytest.raises(PocketError, match="--memory"):
        parsed(text)


def test_the_larger_tile_is_predicted_from_the_smallest(sizes):
    small, _, large = (measured_once(path, threads=2) for path in sizes)
    assert small.size == (256, 256)
    actual = memory._MARGIN * (large.modules + large.tile)
    assert 0.95 * actual < small.at(large.size) < 1.4 * actual  # what ONNX Runtime reuses grows
    assert small.pixels_within(small.at((100, 80))) == pytest.approx(8000)


@pytest.mark.parametrize("asked", range(3))
def test_the_largest_that_fits_is_taken_whichever_is_named(sizes, asked):
    usage = measured_once(sizes[0], threads=2)
    for side, path in zip(SIZES, sizes, strict=True):
        budget = 1.1 * usage.at((side, side))
        assert within(sizes[asked], budget, threads=2)[0] == path


@pytest.mark.parametrize("asked", [0, 1])
def test_of_two_of_one_size_the_named_one_is_taken(tmp_path, asked):
    both = [exported(tmp_path / name, "raw", (256, 256)) for name in ("a", "b")]
    assert within(both[asked], 1e6, threads=2)[0] == both[asked]


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": {"name": "full"}},
        {"tuned": {"sha256": "other"}},
        {"calibration": {"file": "calibration.json", "sha256": "other"}},
        {"weights": {"file": "weights.safetensors", "sha256": "other"}},
    ],
    ids=str,
)
def test_int8_of_another_making_is_not_the_same_at_another_size(tmp_path, other):
    small, large = (exported(tmp_path / f"{n}", "raw", (n, n)) for n in SIZES[:2])
    for path, changed in ((small, {}), (large, other)):
        manifest = json.loads(path.with_name("manifest.json").read_text()) | changed
        manifest["artifacts"][0]["precision"] = "int8"
        path.with_name("manifest.json").write_text(json.dumps(manifest))
    assert within(small, 1e6, threads=2)[0] == small
    assert within(large, 1e6, threads=2)[0] == large


def test_a_budget_that_nothing_fits_is_refused_with_the_least_that_does(sizes):
    with pytest.raises(PocketError, match="tiles of 256x256, the smallest") as refused:
        within(sizes[2], 40, threads=2)
    least = parsed(refused.value.expected.removeprefix("at least "))
    assert within(sizes[2], 1.05 * least, threads=2)[0] == sizes[0]


def test_the_size_that_would_fit_is_named():
    """As long as it is larger than its halo."""
    usage, manifest = Usage(60, 200, (512, 512)), _Manifest(halo=26, multiple=2)
    error = memory._too_small(usage, 150, manifest)
    height, width = map(int, error.fix.split("--size ")[1].split(" ")[0].split("x"))
    assert 0.9 * 150 < usage.at((height, width)) <= 150
    assert "--size" not in memory._too_small(usage, 75, _Manifest(halo=86, multiple=2)).fix
    assert "--size" not in memory._too_small(usage, 20, manifest).fix


def test_a_tile_that_takes_nothing_worth_measuring_is_no_division_by_zero():
    usage, manifest = Usage(400, 0, (256, 256)), _Manifest(halo=26, multiple=2)
    assert memory._too_small(usage, 256, manifest).expected == "at least 480MB"


def test_what_runs_once_a_shot_is_measured_too(tmp_path, monkeypatch):
    """With the tiles twice: ONNX Runtime takes in the second run what it planned in the first."""
    artifact = exported(tmp_path, "raw", (64, 64))
    (tmp_path / "context.onnx").write_bytes(b"context")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["context"] = {"channels": 3, "values": [], "grid": None}
    record = {"file": "context.onnx", "sha256": sha256_of(tmp_path / "context.onnx")}
    manifest["artifacts"][0]["context"] = record
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    runs = []
    monkeypatch.setattr(memory, "open_runner", lambda path, *_, **__: _Runner(path.name, runs))
    memory._measure(artifact, 1)
    assert runs == ["context.onnx", artifact.name, artifact.name]


class _Runner:
    def __init__(self, name, runs):
        self.name, self.runs = name, runs

    def run_in_place(self, fill, take):
        self.runs.append(self.name)

    def close(self):
        pass


class _Manifest:
    model = "tiny"

    def __init__(self, halo, multiple):
        self.halo, self.multiple = halo, multiple


def _fused(artifact, budget, bracket=SAMPLE):
    command = [sys.executable, "-c", FUSE, str(artifact), str(bracket), f"{budget}MB"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("side", SIZES)
def test_fusing_stays_within_the_budget(sizes, side):
    predicted = measured_once(sizes[0], threads=2).at((side, side))
    done = _fused(sizes[0], math.ceil(1.1 * predicted))  # it is measured anew
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    note = next(note for note in found["notes"] if note.startswith("tiles of"))
    assert f"tiles of {side}×{side}, for which" in note
    assert found["peak"] <= int(re.search(r"which (\d+) MB", note)[1])
    if found["tiles"] > 1:  # a single one is run once, and takes less
        assert 0.7 * predicted < found["peak"]


def _fails(*_):
    raise ArtifactError("NaN")


def test_under_a_budget_the_next_bracket_finds_the_memory_free(sizes, monkeypatch):
    """Decoders and tensors are not held side by side, however many brackets follow."""
    opened, closed = [], []

    def counted(*arguments, **options):
        runner = open_runner(*arguments, **options)
        close = runner.close
        opened.append(runner)
        monkeypatch.setattr(runner, "close", lambda: (closed.append(runner), close()))
        return runner

    monkeypatch.setattr("pockethdr.runtime.fuse.open_runner", counted)
    with Fuser(sizes[0], memory="4GB") as fuser:
        first, second = (fuser.fuse(SAMPLE).pixels for _ in range(2))
        assert (len(opened), closed) == (2, opened)
        with monkeypatch.context() as patch:
            patch.setattr("pockethdr.runtime.fuse._run", _fails)
            with pytest.raises(ArtifactError, match="NaN"):
                fuser.fuse(SAMPLE)
        assert (len(opened), closed) == (3, opened)
    np.testing.assert_array_equal(first, second)
    with Fuser(sizes[0]) as fuser:
        for _ in range(2):
            fuser.fuse(SAMPLE)
        assert (len(opened), len(closed)) == (4, 3)


def test_frames_too_large_to_decode_are_refused(sizes, tmp_path):
    from pockethdr.brackets.read import read_bracket

    assert read_bracket(SAMPLE, stream=True, room=3e6)
    with pytest.raises(BracketError, match=r"short\.png: decoding its 0\.3 MP takes about 2 MB"):
        read_bracket(SAMPLE, stream=True, room=1e6)


def test_a_damaged_neighbour_is_not_run(sizes, tmp_path):
    small = exported(tmp_path / "64x64", "raw", (64, 64))
    large = exported(tmp_path / "512x512", "raw", (512, 512))
    large.write_bytes(large.read_bytes() + b"x")
    from pockethdr.runtime.fuse import Fuser

    with pytest.raises(ArtifactError, match="not what was exported"):
        Fuser(small, memory="4GB")


def test_a_fuser_with_a_budget_reads_no_bracket_ahead(sizes):
    from pockethdr.runtime.fuse import Fuser

    with Fuser(sizes[0]) as fuser:
        assert fuser.reads_ahead
    with Fuser(sizes[0], memory="4GB") as fuser:
        assert not fuser.reads_ahead


def test_sizes_that_are_exported_together_share_a_calibration(tmp_path):
    """And what `fuse --memory` finds is what `export --size … --size …` wrote."""
    command = "-m pockethdr.cli export dsan-m16 --targets onnx --precisions int8 --max-patches 1"
    arguments = [*command.split(), "--size", "96x64", "--size", "64x64", "--brackets", str(SAMPLE)]
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, *arguments, "--out", str(out)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    small, large = (out / f"{size}/dsan-m16_raw_int8.onnx" for size in ("64x64", "96x64"))
    shared = [(path.parent / "calibration.json").read_bytes() for path in (small, large)]
    assert shared[0] == shared[1]
    assert within(small, 4000, threads=2)[0] == large
    command = f"-m pockethdr.cli fuse --memory 20MB --out {tmp_path / 'a.exr'} {large} {SAMPLE}"
    done = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True)
    assert done.returncode == 2
    assert "tiles of 64x64, the smallest" in done.stderr
    assert not (tmp_path / "a.exr").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_prediction_holds_for_a_network_in_litert(tmp_path, precision):
    pytest.importorskip("litert_torch")
    command = f"-m pockethdr.cli export dsan-m32 --targets tflite --precisions {precision}"
    arguments = [*command.split(), "--size", "208x224", "--size", "552x720"]
    places = ["--brackets", str(SAMPLE), "--out", str(tmp_path)]
    subprocess.run([sys.executable, *arguments, *places], check=True)
    small, large = (
        tmp_path / size / f"dsan-m32_raw_{precision}.tflite" for size in ("208x224", "552x720")
    )
    predicted = measured(small, threads=2).at((552, 720))
    done = _fused(small, math.ceil(1.02 * predicted))
    assert done.returncode == 0, done.stderr
    assert within(small, 1.02 * predicted, threads=2)[0] == large
    assert 0.75 * predicted < json.loads(done.stdout)["peak"] <= predicted
