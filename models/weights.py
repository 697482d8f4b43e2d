"""Weights on disk: safetensors, with what made them in the header. Pickles are never opened."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pockethdr.errors import WeightsError
from pockethdr.files import atomic_path

HEADER = "pockethdr"
_LISTED = 5
_CONVERT = "save the tensors with safetensors.torch.save_file(model.state_dict(), path)"


class OtherTensorsError(WeightsError):
    """A weights file holds other tensors than the network: in number, name or shape."""


def save_weights(
    path: Path, module: nn.Module, header: Mapping[str, Any], *, besides: Collection[str] = ()
) -> None:
    """Write the module's state, whole or not at all.

    Args:
        header: JSON-able facts (architecture, config, training); read back by `read_header`.
        besides: names that are left out.

    Raises:
        WeightsError: a tensor holds NaN or infinity.
        PocketError: the folder cannot be written.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in _state(module, besides).items()}
    _check_finite(path, state)
    with atomic_path(path, overwrite=True) as partial:
        save_file(state, partial, metadata={HEADER: json.dumps(dict(header), sort_keys=True)})
        partial.chmod(0o644)


def load_weights(path: Path, module: nn.Module, *, besides: Collection[str] = ()) -> dict[str, Any]:
    """Put the file's tensors into the module, all or none, and return the header.

    Args:
        besides: names that the file does not hold, and that stay as they are.

    Raises:
        WeightsError: missing, a pickle, damaged, of another architecture, or not finite.
    """
    state, header = _read(path)
    own = _state(module, besides)
    _check_names(path, state, own, type(module).__name__)
    _check_values(path, state, own, type(module).__name__)
    _check_finite(path, state)
    module.load_state_dict(state, strict=False)
    return header


def trained_steps(path: Path) -> int | None:
    """Of the run that wrote the weights, and of those before whose weights it started from."""
    said = read_header(path).get("training", {})
    done = said.get("steps_done")
    return None if done is None else done + (said.get("init_steps_done") or 0)


def read_header(path: Path) -> dict[str, Any]:
    """What `save_weights` was told; empty for a file of another program."""
    _check_is_safetensors(path)
    with _opened(path) as file:
        return _header(path, file.metadata())


def _state(module: nn.Module, besides: Collection[str]) -> dict[str, Tensor]:
    """The state without second names of one tensor (shared layers), which safetensors refuses."""
    kept: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen and name not in besides:
            seen.add(id(tensor))
            kept[name] = tensor
    return kept


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    _check_is_safetensors(path)
    with _opened(path) as file:
        try:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise _damaged(path, error) from error
        return state, _header(path, file.metadata())


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _header(path: Path, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    try:
        header = json.loads((metadata or {}).get(HEADER, "{}"))
    except json.JSONDecodeError as error:
        raise _damaged(path, error) from error
    if not isinstance(header, dict):
        raise _damaged(path, f"its {HEADER} entry is not a JSON object")
    return header


def _check_is_safetensors(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"{path}: no such file", expected="a .safetensors file")
    with path.open("rb") as file:
        start = file.read(16)
    # A zip is what torch.save writes; \x80 followed by a small version number opens a pickle.
    if start[:2] == b"PK" or (start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"):
        if _plausible_header(start, path.stat().st_size):
            return
        raise WeightsError(
            f"{path}: a pickle (torch.save); opening one can run code, so it is refused",
            expected="a .safetensors file",
            fix=_CONVERT,
        )


def _plausible_header(start: bytes, size: int) -> bool:
    """A safetensors file may begin with any byte: eight bytes of length, then a brace."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size


def _check_names(
    path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor], kind: str
) -> None:
    expected = set(own)
    missing, unexpected = sorted(expected - set(state)), sorted(set(state) - expected)
    if missing or unexpected:
        raise OtherTensorsError(
            f"{path}: weights of another network; missing: {_first(missing)}; "
            f"unexpected: {_first(unexpected)}",
            expected=f"the {len(expected)} tensors of {kind}",
            fix="name the network that these weights were trained for"
            if {name.partition(".")[2] for name in state} != expected
            else f"save them without {next(iter(state)).partition('.')[0]}. before each name",
        )


def _check_values(
    path: Path, state: Mapping[str, Tensor], own: Mapping[str, Tensor], kind: str
) -> None:
    other = [
        f"{name} is {_kind(state[name])}, not {_kind(tensor)}"
        for name, tensor in own.items()
        if state[name].is_floating_point() != tensor.is_floating_point()
    ]
    if other:
        raise WeightsError(
            f"{path}: values of another kind: {_first(other)}",
            expected="the values that the network was trained to, not quantised ones",
            fix="save the network's own state_dict()",
        )
    wrong = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if state[name].shape != tensor.shape
    ]
    if wrong:
        raise OtherTensorsError(
            f"{path}: weights of another size: {_first(wrong)}",
            expected=f"the sizes of this {kind}",
            fix="name the variant that these weights were trained for",
        )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    broken = [
        name
        for name, tensor in state.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if broken:
        raise WeightsError(
            f"{path}: NaN or infinity in {_first(broken)}",
            expected="finite weights",
            fix="take an earlier checkpoint",
        )


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (", ".join(names[:_LISTED]) + more) if names else "none"


def _damaged(path: Path, error: object) -> WeightsError:
    return WeightsError(
        f"{path}: not a readable safetensors file ({error})",
        expected="a complete .safetensors file",
        fix="copy the file again",
    )
