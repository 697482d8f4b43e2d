"""TFLite artifacts on emulated ARM code, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pockethdr.errors import Unavailable
from pockethdr.report.on_arm import sentence
from pockethdr.runtime.arm import LEAST_DB, compared
from pockethdr.runtime.arm_tools import arm_host, qemu_of

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


def test_missing_tools_are_named_with_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no ARM Python with LiteRT") as refused:
        arm_host(tmp_path)

    assert refused.value.install == "python -m pockethdr.runtime.arm_tools"


def test_an_old_qemu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "qemu-aarch64"
    old.write_text("#!/bin/sh\necho qemu-aarch64 version 7.2.17\n")
    old.chmod(0o755)
    monkeypatch.setenv("POCKETHDR_QEMU", str(old))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(Unavailable, match="QEMU 7 is too old"):
        qemu_of(tmp_path / "nothing")
