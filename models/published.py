"""Weights that others published for AHDRNet, as weights of ours.

The layout is that of qingsenyangit/AHDRNet (model.py). TianhongDai/deep-hdr-baselines and
shuaizhengliu/Joint-HDRDN (models/ahdr.py, 8 → 4 channels) have the same names. Two convolutions of
it, attConv1 and attConv3, are never run by its forward pass: they are accepted, and left out.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pockethdr.brackets.bracket import CHANNELS
from pockethdr.errors import WeightsError, first_line
from pockethdr.models import zoo
from pockethdr.models.weights import save_weights

NAME = "ahdrnet-paper"
LAYOUT = "a state dict with the layer names of qingsenyangit/AHDRNet"

#: Published layer → ours.
_LAYERS = {
    "conv1": "features",
    "att11": "attention_short.first",
    "att12": "attention_short.second",
    "att31": "attention_long.first",
    "att32": "attention_long.second",
    "conv2": "fuse",
    **{
        f"RDB{block + 1}.dense_layers.{layer}.conv": f"blocks.{block}.layers.{layer}"
        for block in range(3)
        for layer in range(6)
    },
    **{f"RDB{block + 1}.conv_1x1": f"blocks.{block}.join" for block in range(3)},
    "GFF_1x1": "gather",
    "GFF_3x3": "gather_up",
    "conv_up": "tail",
    "conv3": "out",
}
_NEVER_RUN = ("attConv1", "attConv3")
#: Where training scripts put the state dict in what they save.
_WRAPPERS = ("state_dict", "model", "net", "params")


@dataclass(frozen=True)
class Imported:
    """What an import wrote: a network of the zoo, and the published tensors it left out."""

    name: str
    domain: str
    path: Path
    left_out: tuple[str, ...]


def import_weights(source: Path, to: Path, *, overwrite: bool = False) -> Imported:
    """Write a published AHDRNet checkpoint as safetensors for `ahdrnet-paper`.

    Args:
        source: written by torch.save (opened with `weights_only`, which runs no code), or
            safetensors; a state dict, alone, in a dictionary or first in a list.
        to: the file to write.

    Raises:
        WeightsError: not such a checkpoint, of another size, or `to` exists.
    """
    if to.exists() and not overwrite:
        raise WeightsError(f"{to}: exists", fix="choose another file, or add --overwrite")
    state = _without_prefix(_state_of(source, _opened(source)))
    known, left_out = _sorted_out(source, state)
    domain = _domain(source, known)
    network = zoo.build(NAME, domain)
    network.load_state_dict(_fitted(source, known, network.state_dict()))
    config = replace(zoo.variant(NAME).config, domain=domain)
    save_weights(
        to,
        network,
        {
            "architecture": NAME,
            "domain": domain,
            "config": asdict(config),
            "imported": {"file": source.name, "layout": "AHDRNet", "left_out": left_out},
        },
    )
    return Imported(NAME, domain, to, left_out)


def _opened(source: Path) -> Any:
    if not source.is_file():
        raise WeightsError(f"{source}: no such file", expected="a checkpoint")
    try:
        if source.suffix == ".safetensors":
            return load_file(source)
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{source}: holds more than tensors, and opening that can run code",
            expected=LAYOUT,
            fix="where you trust it: torch.save(network.state_dict(), file), and import that",
        ) from error
    except Exception as error:  # damaged files fail in many ways, none of them ours
        raise WeightsError(
            f"{source}: cannot be read ({first_line(error)})", expected=LAYOUT
        ) from error


def _state_of(source: Path, saved: Any) -> dict[str, Tensor]:
    """The state dict: itself, under a usual name, or the first of a list (weights, optimiser)."""
    if isinstance(saved, list | tuple) and saved:
        saved = saved[0]
    if isinstance(saved, Mapping):
        saved = next(
            (saved[key] for key in _WRAPPERS if isinstance(saved.get(key), Mapping)), saved
        )
        if saved and all(isinstance(value, Tensor) for value in saved.values()):
            return dict(saved)
    raise WeightsError(f"{source}: holds no state dict", expected=LAYOUT)


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`module.`, which DataParallel puts in front of every name."""
    return {name.removeprefix("module."): value for name, value in state.items()}


def _sorted_out(
    source: Path, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors that the network has, by their published names, and the names of the others."""
    known = {name: value for name, value in state.items() if _layer_of(name) in _LAYERS}
    left_out = tuple(sorted(name for name in state if _layer_of(name) in _NEVER_RUN))
    unknown = [name for name in state if name not in known and name not in left_out]
    if unknown:
        raise WeightsError(
            f"{source}: not this AHDRNet's: {_some(unknown)}",
            expected=f"{LAYOUT}: att11, RDB1.dense_layers.0.conv, GFF_1x1, …",
        )
    return known, left_out


def _layer_of(name: str) -> str:
    return name.rpartition(".")[0]


def _domain(source: Path, state: Mapping[str, Tensor]) -> str:
    first = state.get("conv1.weight", torch.empty(0, 0))
    for domain, channels in CHANNELS.items():
        if first.shape[1] == channels:
            return domain
    raise WeightsError(
        f"{source}: conv1.weight is {tuple(first.shape)}" if len(first) else f"{source}: no conv1",
        expected="channels a frame: "
        + ", ".join(f"{count} for {domain}" for domain, count in CHANNELS.items()),
    )


def _fitted(
    source: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors by our names.

    Raises:
        WeightsError: one is missing, or of another size than `wanted`.
    """
    fitted, wrong = dict[str, Tensor](), list[str]()
    for published, ours in _LAYERS.items():
        for kind in ("weight", "bias"):
            value, like = state.get(f"{published}.{kind}"), wanted[f"{ours}.{kind}"]
            if value is None:
                wrong.append(f"no {published}.{kind}")
            elif value.shape != like.shape:
                sizes = f"{tuple(value.shape)}, not {tuple(like.shape)}"
                wrong.append(f"{published}.{kind} is {sizes}")
            else:
                fitted[f"{ours}.{kind}"] = value.float()
    if wrong:
        raise WeightsError(
            f"{source}: an AHDRNet of another size: {_some(wrong)}",
            expected="64 features, three dense blocks of six layers that add 32 each",
        )
    return fitted


def _some(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
