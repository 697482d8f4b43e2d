"""Places that cannot be written to: full, read-only, or not a folder at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from fuse_toy import exported

SAMPLE = str(files("pockethdr.brackets") / "sample")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`mounted(options)`: a tmpfs with these options."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs Linux and root")
    place = tmp_path / "mount"

    def mount(options: str) -> Path:
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no tmpfs here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def export(out: Path) -> subprocess.CompletedProcess[str]:
    command = "-m pockethdr.cli export dsan-m16 --targets onnx --precisions fp32 --size 64x64"
    arguments = [*command.split(), "--brackets", SAMPLE, "--out", str(out)]
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


def fuse(artifact: Path, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pockethdr.cli", "fuse", str(artifact), SAMPLE]
    return subprocess.run(
        [*command, "--out", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in ("fix:", *words)), done.stderr


def test_a_full_disk(mounted: Callable[[str], Path]) -> None:
    out = mounted("size=64k") / "out"
    refused(export(out), "full")
    left = [path for path in out.rglob("*") if path.is_file() and "partial" in path.name]
    assert not left


@pytest.mark.parametrize("suffix", ["exr", "jpg", "tif"])
def test_a_disk_too_full_for_the_picture(
    mounted: Callable[[str], Path], tmp_path: Path, suffix: str
) -> None:
    pytest.importorskip("onnx")
    place = mounted("size=12k")
    done = fuse(exported(tmp_path / "export", "raw", (64, 64)), place / f"a.{suffix}")
    refused(done, "full", f"a.{suffix}")
    assert not list(place.iterdir())


def test_a_disk_too_full_for_what_is_kept_meanwhile(
    mounted: Callable[[str], Path], tmp_path: Path
) -> None:
    """Frames and result lie in unnamed files where TMPDIR says, which vanish with the process."""
    pytest.importorskip("onnx")
    place, out = mounted("size=512k"), tmp_path / "out" / "a.exr"
    done = fuse(exported(tmp_path / "export", "raw", (64, 64)), out, TMPDIR=str(place))
    refused(done, "No space left", "TMPDIR", str(place))
    assert not list(place.glob("pockethdr-*"))
    assert not out.exists()


def test_a_read_only_disk(mounted: Callable[[str], Path]) -> None:
    place = mounted("ro")
    refused(export(place / "out"), str(place))


def test_a_file_where_a_folder_is_needed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    refused(export(tmp_path / "file" / "out"), "file")
    refused(export(tmp_path / "file"), "file")
    assert (tmp_path / "file").read_text() == "mine"
