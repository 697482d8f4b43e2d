"""Weights that must never get in, through the command that a user would type."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from pockethdr.cli import main
from pockethdr.models.zoo import build


class _Bomb:
    """Unpickled, it makes a file: the proof that something was executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def refuse(tmp_path: Path, weights: Path, *words: str) -> None:
    out = tmp_path / "out"
    arguments = ["--weights", weights, "--brackets", tmp_path, "--out", out]
    result = CliRunner().invoke(main, ["export", "dsan-m16", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert all(word in result.output for word in (weights.name, "expected:", *words))
    assert not out.exists()


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_executed(tmp_path: Path, kind: str) -> None:
    weights, fuse = tmp_path / "evil.safetensors", tmp_path / "executed"
    if kind == "pickle":
        weights.write_bytes(pickle.dumps(_Bomb(fuse)))
    else:
        torch.save({"a": _Bomb(fuse)}, weights)
    refuse(tmp_path, weights, "pickle")
    assert not fuse.exists()
    with weights.open("rb") as file:  # the bomb does go off where it is let
        torch.load(file, weights_only=False) if kind == "torch" else pickle.load(file)
    assert fuse.exists()


def test_another_architecture_is_named(tmp_path: Path) -> None:
    weights = tmp_path / "m32.safetensors"
    save_file(_state("dsan-m32"), weights)
    refuse(tmp_path, weights)


def test_nan_is_named(tmp_path: Path) -> None:
    state = _state("dsan-m16")
    name = next(iter(state))
    state[name].view(-1)[0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    refuse(tmp_path, tmp_path / "nan.safetensors", "NaN", name)


def test_a_cut_file_is_damaged(tmp_path: Path) -> None:
    weights = tmp_path / "cut.safetensors"
    save_file(_state("dsan-m16"), weights)
    weights.write_bytes(weights.read_bytes()[:-100])
    refuse(tmp_path, weights)


def _state(name: str) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in build(name, "raw").state_dict().items()}
