"""Many brackets: one failure is passed over, a second run goes on, and torch is never needed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from fuse_toy import exported

from pockethdr.brackets.read import find_brackets
from pockethdr.errors import ArtifactError, PocketError
from pockethdr.files import sha256_of
from pockethdr.runtime.batch import fuse_many
from pockethdr.runtime.fuse import Fuser
from pockethdr.runtime.verify import verify

pytest.importorskip("onnx")
SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))


@pytest.fixture
def artifact(tmp_path):
    return exported(tmp_path / "export", "raw", (64, 64))


@pytest.fixture
def folders(tmp_path):
    """Two good brackets and, between them, one with a truncated frame."""
    made = []
    for name in ("a", "broken", "c"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for file in ("short.png", "mid.png", "long.png", "metadata.json"):
            (folder / file).write_bytes((SAMPLE / file).read_bytes())
        described = json.loads((folder / "metadata.json").read_text())
        described.pop("ground_truth", None)
        (folder / "metadata.json").write_text(json.dumps(described))
        made.append(folder)
    (made[1] / "mid.png").write_bytes((made[1] / "mid.png").read_bytes()[:2000])
    return made


def cli(*arguments, **options):
    command = [sys.executable, "-m", "pockethdr.cli", "fuse", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_one_failure_is_passed_over(artifact, folders):
    with Fuser(artifact) as fuser:
        results = dict(fuse_many(fuser, folders, lambda folder, image: f"{image.size}"))
    assert results[folders[0]] == results[folders[2]] == "(480, 640)"
    assert isinstance(results[folders[1]], PocketError)
    assert "mid.png: truncated" in str(results[folders[1]])


def test_brackets_of_the_other_domain_are_named(artifact, folders, tmp_path):
    photographs = tmp_path / "photos" / "phone"
    photographs.mkdir()
    for index in range(3):
        cv2.imwrite(str(photographs / f"{index}.jpg"), np.zeros((8, 8, 3), np.uint8))
    done = cli(artifact, "--batch", tmp_path / "photos", "--out", tmp_path / "out")
    assert f"{photographs}: an rgb bracket, left out of raw" in done.stderr


def test_an_exposure_is_never_replaced(artifact, folders, tmp_path):
    exposure = folders[0] / "mid.png"
    before = exposure.read_bytes()
    arguments = [artifact, folders[0], "--out", tmp_path / "a.exr", "--preview", exposure]
    done = cli(*arguments, "--overwrite")
    assert done.returncode == 2
    assert f"{exposure} is a photograph of the bracket, and stays" in done.stderr
    assert exposure.read_bytes() == before
    own = folders[0] / "preview.png"
    for _ in range(2):
        done = cli(
            artifact, folders[0], "--out", tmp_path / "a.exr", "--preview", own, "--overwrite"
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (("export", "photos/a"), "export: a whole export\nexpected: one of its artifacts: tiny"),
        (("artifact", "photos"), "photos: a folder of 3 brackets, and none itself"),
        (("artifact", "photos/a", "png"), "a PNG holds no HDR image"),
    ],
)
def test_natural_mistakes_are_understood(artifact, folders, tmp_path, what, says):
    model, bracket, *suffix = what
    out = tmp_path / f"out.{suffix[0] if suffix else 'jpg'}"
    done = cli(
        artifact if model == "artifact" else artifact.parent, tmp_path / bracket, "--out", out
    )
    assert done.returncode == 2
    assert says in done.stderr
    assert not out.exists()


def test_a_second_run_goes_on(artifact, folders, tmp_path):
    arguments = [artifact, "--batch", tmp_path / "photos", "--out", tmp_path / "out"]
    done = cli(*arguments)
    assert done.returncode == 1, done.stderr
    assert "2 fused, 1 failed" in done.stdout
    assert "Traceback" not in done.stderr
    assert f"failed: {folders[1] / 'mid.png'}: truncated" in done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.jpg", "c.jpg"}
    before = (tmp_path / "out" / "a.jpg").stat().st_mtime_ns
    (folders[1] / "mid.png").write_bytes((SAMPLE / "mid.png").read_bytes())
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 are there already" in done.stdout
    assert (tmp_path / "out" / "a.jpg").stat().st_mtime_ns == before


@pytest.mark.parametrize("place", [".", "fused", "a", "../photos/fused"])
def test_results_are_not_laid_where_the_next_run_looks(artifact, folders, tmp_path, place):
    photos, out = tmp_path / "photos", tmp_path / "photos" / place
    shutil.rmtree(folders[1])
    before = sorted(photos.rglob("*"))
    done = cli(artifact, "--batch", photos, "--out", out)
    assert done.returncode == 2, done.stdout
    assert f"fix: --out {photos}_fused, or --format exr" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(photos.rglob("*")) == before


def test_results_that_are_no_photographs_may_lie_beside_their_brackets(artifact, folders, tmp_path):
    photos = tmp_path / "photos"
    shutil.rmtree(folders[1])
    done = cli(artifact, "--batch", photos, "--out", photos, "--format", "exr")
    assert done.returncode == 0, done.stderr
    assert find_brackets(photos) == [folders[0], folders[2]]


def test_each_picture_has_its_notes(artifact, folders, tmp_path):
    shutil.rmtree(folders[1])
    described = json.loads((folders[2] / "metadata.json").read_text())
    described["exposure_times_s"] = [1.0, 2.0, 4.0]
    (folders[2] / "metadata.json").write_text(json.dumps(described))
    done = cli(artifact, "--batch", tmp_path / "photos", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    of_a, of_c = done.stdout.split(str(tmp_path / "out" / "c.jpg"))
    assert "\n  exposure ratios from exposure_times_s" in of_a
    assert "\n  exposure ratios from the pixels: ×1, ×3.98" in of_c


def test_names_that_differ_behind_a_dot_are_two(artifact, folders, tmp_path):
    photos = tmp_path / "photos"
    for old, new in (("a", "x.v1"), ("c", "x.v2")):
        (photos / old).rename(photos / new)
    shutil.rmtree(folders[1])
    done = cli(artifact, "--batch", photos, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"x.v1.jpg", "x.v2.jpg"}


def test_an_odd_mosaic_comes_back_in_its_own_size(artifact, folders, tmp_path):
    for file in ("short.png", "mid.png", "long.png"):
        frame = cv2.imread(str(SAMPLE / file), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(folders[0] / file), frame[:333, :407])
    done = cli(artifact, folders[0], "--out", tmp_path / "a.jpg", "--preview", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    for file in ("a.jpg", "a.png"):
        assert cv2.imread(str(tmp_path / file)).shape == (333, 407, 3)


def test_existing_files_are_refused_before_the_work(artifact, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"mine")
    done = cli(artifact, SAMPLE, "--out", tmp_path / "a.jpg")
    assert done.returncode == 2
    assert "exists" in done.stderr
    assert (tmp_path / "a.jpg").read_bytes() == b"mine"


def test_one_file_cannot_be_both_results(artifact, tmp_path):
    same = tmp_path / "a.jpg"
    done = cli(artifact, SAMPLE, "--out", same, "--preview", tmp_path / "." / "a.jpg")
    assert done.returncode == 2
    assert "--out and --preview are both" in done.stderr
    assert not same.exists()


@pytest.mark.parametrize(
    "options",
    [("--exposure", "nan"), ("--exposure", "1e9"), ("--threads", "100000"), ("--threads", "0")],
)
def test_absurd_numbers_are_refused(artifact, tmp_path, options):
    done = cli(artifact, SAMPLE, "--out", tmp_path / "a.jpg", *options)
    assert done.returncode == 2, done.stderr
    assert options[0] in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.jpg").exists()


def test_a_killed_run_leaves_nothing_that_looks_whole(artifact, tmp_path):
    """Killed at any moment, the output is whole or not there; the next run clears the rest."""
    out = tmp_path / "out" / "a.exr"
    out.parent.mkdir()
    command = [sys.executable, "-m", "pockethdr.cli", "fuse", artifact, SAMPLE, "--out", out]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    for _ in range(600):
        if process.poll() is not None or any(out.parent.iterdir()):
            break
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists() or out.stat().st_size > 1000
    assert cli(artifact, SAMPLE, "--out", out, "--overwrite").returncode == 0
    assert [p.name for p in out.parent.iterdir()] == ["a.exr"]


def test_a_fuser_is_shared_by_threads_and_closes(artifact):
    with Fuser(artifact, threads=1) as fuser, ThreadPoolExecutor(3) as pool:
        images = list(pool.map(lambda _: fuser.fuse(SAMPLE).pixels, range(3)))
    for image in images[1:]:
        np.testing.assert_array_equal(image, images[0])
    with pytest.raises(ArtifactError, match="closed"):
        fuser.fuse(SAMPLE)


def test_fusing_a_tflite_imports_no_torch(tmp_path):
    """And `import pockethdr` costs nothing."""
    script = """
import sys, time
begin = time.perf_counter()
import pockethdr
assert time.perf_counter() - begin < 0.5
sys.modules["torch"] = None  # as if it were not installed
from pockethdr import Fuser
from pockethdr.runtime import litert, write
from pockethdr.commands import fuse
loaded = [name for name in sys.modules if name.split(".")[0] == "torch" and sys.modules[name]]
assert not loaded, loaded
try:
    Fuser(sys.argv[1])
except pockethdr.PocketError as error:
    assert "no such artifact" in str(error)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "none.tflite")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused_before_native_code_sees_it(artifact, tmp_path, share):
    data = artifact.read_bytes()
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(data)
    verify(alone, "onnx")
    alone.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ArtifactError, match="not a complete onnx artifact"):
        verify(alone, "onnx")


@pytest.mark.parametrize("damage", [b"", b"TFL3", b"\0" * 64, bytes(4) + b"TFL3" + b"\xff" * 200])
def test_what_is_no_flatbuffer_is_refused(tmp_path, damage):
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "a.tflite").write_bytes(damage)
    with pytest.raises(ArtifactError, match="not a complete tflite artifact"):
        verify(tmp_path / "a.tflite", "tflite")


def test_a_manifest_does_not_vouch_for_the_structure_of_a_file(artifact, tmp_path, monkeypatch):
    """Who made the file made the manifest too."""
    from pockethdr.runtime import ort

    folder = shutil.copytree(artifact.parent, tmp_path / "copy")
    broken, manifest = folder / artifact.name, folder / "manifest.json"
    before = sha256_of(broken)
    broken.write_bytes(broken.read_bytes()[:300])
    manifest.write_text(manifest.read_text().replace(before, sha256_of(broken)))
    monkeypatch.setattr(ort, "open_onnx", lambda *_: pytest.fail("native code was reached"))
    with pytest.raises(ArtifactError, match="not a complete onnx artifact"):
        Fuser(broken)


def test_a_package_that_lacks_a_part_is_refused(tmp_path):
    package = tmp_path / "a.mlpackage"
    package.mkdir()
    entries = {"itemInfoEntries": {"x": {"path": "com.apple.CoreML/model.mlmodel"}}}
    (package / "Manifest.json").write_text(json.dumps(entries))
    with pytest.raises(ArtifactError, match=r"model\.mlmodel is missing"):
        verify(package, "coreml")
