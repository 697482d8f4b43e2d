"""TFLite artifacts on emulated ARM code, and what is said where there is none."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import context_toy
import numpy as np
import pytest

from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.report.on_arm import sentence
from pockethdr.runtime.agreement import LEAST_DB
from pockethdr.runtime.arm import check
from pockethdr.runtime.arm.check import check_on_arm, compared
from pockethdr.runtime.arm.tools import arm_host, qemu_of
from pockethdr.runtime.artifact import Deployed
from pockethdr.runtime.context import context_of, inputs_at
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.runner import open_runner
from pockethdr.runtime.tiling import planned

_TILES = np.random.default_rng(0).random((2, 8, 8, 3), dtype=np.float32)


def test_equal_int8_is_called_equal_and_one_bit_is_found() -> None:
    other = _TILES.copy()
    other[1, 2, 3, 1] = np.nextafter(other[1, 2, 3, 1], np.float32(2))

    assert "bit for bit" in sentence(compared(_TILES, _TILES, "int8"))
    found = compared(_TILES, other, "int8")

    assert (found.differing, found.where) == (1, (1, 2, 3, 1))
    assert "1 of 384 values differ from x86" in sentence(found)


def test_int8_that_computes_something_else_fails() -> None:
    assert not compared(_TILES, 1 - _TILES, "int8").passed


@pytest.mark.parametrize(("noise", "passes"), [(1e-5, True), (3e-2, False)])
def test_fp16_arithmetic_is_held_to_its_decibels(noise: float, passes: bool) -> None:
    found = compared(_TILES, _TILES + np.float32(noise), "fp16")

    assert found.db is not None
    assert found.passed is passes is (found.db >= LEAST_DB)


def test_fp16_that_overflows_fails() -> None:
    found = compared(_TILES, np.full_like(_TILES, np.inf), "fp16")

    assert not found.passed
    assert "NaN or infinity" in sentence(found)


def test_an_artifact_that_returns_nan_everywhere_fails_there_too() -> None:
    nothing = np.full_like(_TILES, np.nan)

    assert not compared(nothing, nothing, "int8").passed


def test_missing_tools_are_named_with_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no ARM Python with LiteRT") as refused:
        arm_host(tmp_path)

    assert refused.value.install == "python -m pockethdr.runtime.arm.tools"


def test_an_old_qemu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "qemu-aarch64"
    old.write_text("#!/bin/sh\necho qemu-aarch64 version 7.2.17\n")
    old.chmod(0o755)
    monkeypatch.setenv("POCKETHDR_QEMU", str(old))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable, match="QEMU 7 is too old"):
        qemu_of(tmp_path / "nothing")


def _by_the_worker(seeing: Deployed, folder: Path, **changes: np.ndarray | None) -> np.ndarray:
    """What the worker makes of the tiles here, some of its inputs changed or left out, flat."""
    inputs = check._tiles(seeing, context_toy.bracket()) | changes
    frames = folder / "frames.npz"
    np.savez(frames, **{name: stack for name, stack in inputs.items() if stack is not None})
    return check._here(seeing.path, frames)


def test_the_worker_tells_a_network_of_the_whole_image(seeing: Deployed, tmp_path: Path) -> None:
    bracket = context_toy.bracket()
    plan, _ = planned(seeing.manifest, bracket.size())
    context = context_of(seeing, Feed(bracket), threads=1)
    with closing(open_runner(seeing.path, "tflite")) as runner:
        tiles = [inputs_at(tile, bracket.inputs(), context) for tile in (plan[0], plan[-1])]
        expected = np.concatenate([runner.run(tile) for tile in tiles]).transpose(0, 2, 3, 1)

    found = _by_the_worker(seeing, tmp_path)
    coded = check._tiles(seeing, bracket)["context"]
    untold = _by_the_worker(seeing, tmp_path, context=np.zeros_like(coded))

    np.testing.assert_array_equal(found, expected.reshape(found.shape))
    assert coded.dtype == np.int8
    assert not compared(untold, found, "int8").passed, "the context matters"


@pytest.mark.parametrize("context", [None, np.zeros((check.TILES, 1, 1, 1), np.float32)])
def test_a_context_that_is_left_out_is_no_zero(
    seeing: Deployed, context: np.ndarray | None, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match=r"takes .*'context': 'int8 \[64, 64, 8\]'.* was given"):
        _by_the_worker(seeing, tmp_path, context=context)


def test_a_network_with_a_context_is_judged_on_arm(seeing: Deployed) -> None:
    try:
        host = arm_host()
    except Unavailable as missing:
        pytest.skip(str(missing))

    assert check_on_arm(seeing, context_toy.bracket(), host).passed
