"""Weights files: what is refused, and that nothing is half done."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pockethdr.errors import PocketError, WeightsError
from pockethdr.models import zoo
from pockethdr.models.dsan import Dsan, DsanConfig
from pockethdr.models.weights import load_weights, read_header, save_weights

_SMALL = DsanConfig(channels=8, latent=4, squeeze=8, blocks=1, block_type="res", phi_mode="pixel")


def _network(seed: int = 0, **switches: object) -> Dsan:
    torch.manual_seed(seed)
    return Dsan(DsanConfig(**{**_SMALL.__dict__, **switches}))  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_weights(path, _network(), {"architecture": "small", "steps": 3})
    return path


def test_round_trip_is_exact_and_keeps_the_header(saved: Path) -> None:
    other = _network(1)
    assert load_weights(saved, other) == {"architecture": "small", "steps": 3}
    assert read_header(saved)["steps"] == 3
    for name, value in _network().state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_shared_filters_are_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    network = _network(share_filters=True)
    save_weights(path, network, {})
    assert not [name for name in load_file(path) if name.startswith("filter_long")]
    other = _network(1, share_filters=True)
    load_weights(path, other)
    assert torch.equal(other.filter_long.fixed.weight, network.filter_short.fixed.weight)


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("exploded"),)  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["pickle", "torch", "torch_old"])
def test_pickles_are_refused_and_never_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(_Bomb()))
    else:
        torch.save(_Bomb(), path, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(WeightsError, match="pickle") as caught:
        load_weights(path, _network())
    assert "save_file" in caught.value.fix
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value: float, saved: Path) -> None:
    state = load_file(saved)
    state["fuse.bias"][2] = value
    save_file(state, saved)
    with pytest.raises(WeightsError, match=r"NaN or infinity in fuse\.bias"):
        load_weights(saved, _network())
    broken = _network()
    with torch.no_grad():
        broken.fuse.bias[0] = value  # type: ignore[index]
    with pytest.raises(WeightsError, match=r"fuse\.bias"):
        save_weights(saved.with_name("new.safetensors"), broken, {})
    assert not saved.with_name("new.safetensors").exists()


def test_another_architecture_lists_missing_and_unexpected(saved: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_weights(saved, _network(block_type="drdb"))
    assert "missing: blocks.0.join.bias" in caught.value.what
    assert "and 9 more" in caught.value.what
    assert "unexpected: blocks.0.first.bias" in caught.value.what


def test_another_size_is_named_and_nothing_is_loaded(saved: Path) -> None:
    wide = _network(2, latent=2)
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    with pytest.raises(WeightsError, match=r"filter_short\.expand is \(8, 1, 4\), not \(8, 1, 2\)"):
        load_weights(saved, wide)
    assert all(torch.equal(value, before[name]) for name, value in wide.state_dict().items())


def test_quantised_values_are_not_taken_for_weights(saved: Path) -> None:
    state = load_file(saved)
    name = next(iter(state))
    save_file({**state, name: (state[name] * 127).to(torch.int8)}, saved)
    with pytest.raises(WeightsError, match=f"{name} is int8, not float32"):
        load_weights(saved, _network(1))


def test_the_prefix_of_a_wrapper_is_named(saved: Path) -> None:
    save_file({f"module.{name}": value for name, value in load_file(saved).items()}, saved)
    with pytest.raises(WeightsError, match=r"without module\. before each name"):
        load_weights(saved, _network(1))


@pytest.mark.parametrize("cut", [0, 4, 100, -10])
def test_damaged_files_are_refused(cut: int, saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:cut])
    with pytest.raises(WeightsError, match="not a readable safetensors"):
        load_weights(saved, _network())


def test_missing_files_and_broken_headers(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read_header(tmp_path / "none.safetensors")
    path = tmp_path / "w.safetensors"
    for header in ("{not json", json.dumps([1, 2])):
        save_file({"x": torch.zeros(1)}, path, metadata={"pockethdr": header})
        with pytest.raises(WeightsError):
            read_header(path)
    save_file({"x": torch.zeros(1)}, path)
    assert read_header(path) == {}


def test_a_file_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PocketError, match="cannot write"):
        save_weights(tmp_path / "file" / "w.safetensors", _network(), {})


def test_shipped_weights_belong_to_their_names() -> None:
    tuned = set(zoo.WEIGHTS.glob("*-int8.safetensors"))
    found = sorted(set(zoo.WEIGHTS.glob("*.safetensors")) - tuned)
    if not found:
        pytest.skip("no weights are shipped")
    for path in found:
        name, _, domain = path.stem.rpartition("-")
        header = load_weights(path, zoo.build(name, domain))
        assert (header["architecture"], header["domain"]) == (name, domain)
        assert header["training"]["held_out"]
