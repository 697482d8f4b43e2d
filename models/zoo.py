"""The one table of named networks.

`dsan-m32` without a suffix is the shipped form; `dsan-m32-global`, `-grid`, `-pixel` and `-static`
name what Φ varies over. Why the shipped form is per pixel: docs/decisions/002. The networks that
DSAN is compared with come as their paper has them, as the benchmark of Mobile-HDR ran them, and at
a phone's cost: that of `dsan-m32`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pockethdr.brackets.bracket import RAW
from pockethdr.errors import ModelError
from pockethdr.models import ahdrnet, deephdr, nhdrrnet
from pockethdr.models.dsan import Dsan, DsanConfig
from pockethdr.models.dynamic_conv import GLOBAL, GRID, PIXEL, STATIC
from pockethdr.models.network import LINEAR, SQRT, Network, NetworkConfig

DEFAULT_PHI = PIXEL
PHI_MODES = (GLOBAL, GRID, PIXEL, STATIC)
DOMAINS = ("raw", "rgb")
WEIGHTS = Path(__file__).parent / "weights"

_FULL = DsanConfig(latent=8)
_MOBILE = DsanConfig(
    input_coding=SQRT,
    latent=8,
    squeeze=16,
    block_type="res",
    down=2,
    act="relu",
    tail=1,
    act_between=True,
)


@dataclass(frozen=True)
class Variant:
    """One row: a network and what it is for."""

    name: str
    config: NetworkConfig
    purpose: str


_SIZES = (
    Variant("dsan-full", _FULL, "quality, tiled"),
    Variant("dsan-m48", replace(_MOBILE, channels=48), "flagship phones"),
    Variant("dsan-m32", replace(_MOBILE, channels=32), "phones, default"),
    Variant("dsan-m24", replace(_MOBILE, channels=24, latent=4), "mid-range phones"),
    Variant("dsan-m16", replace(_MOBILE, channels=16, latent=4), "viewfinder"),
    Variant("dsan-m32-l4", replace(_MOBILE, channels=32, latent=4), "ablation: L = 4"),
    Variant("dsan-m32-free", replace(_MOBILE, channels=32, phi_act="none"), "ablation: no tanh"),
)

_PURPOSES = {
    "mobile": "dsan-m32's cost",
    "bench": "the benchmark's",
    "paper": "the paper's",
}
_OTHERS = tuple(
    Variant(f"{family}-{variant}", variants[variant], purpose)
    for family, variants in (
        ("ahdrnet", ahdrnet.VARIANTS),
        ("deephdr", deephdr.VARIANTS),
        ("nhdrrnet", nhdrrnet.VARIANTS),
    )
    for variant, purpose in _PURPOSES.items()
)

_NETWORKS: dict[type[NetworkConfig], Callable[[Any], Network]] = {
    DsanConfig: Dsan,
    ahdrnet.AhdrnetConfig: ahdrnet.Ahdrnet,
    deephdr.DeepHdrConfig: deephdr.DeepHdr,
    nhdrrnet.NhdrrnetConfig: nhdrrnet.Nhdrrnet,
    nhdrrnet.NhdrrnetPaperConfig: nhdrrnet.NhdrrnetPaper,
}


def rows() -> tuple[Variant, ...]:
    """Every network once, DSAN first, with its short name."""
    return tuple(variant(row.name) for row in (*_SIZES, *_OTHERS))


def names() -> list[str]:
    """Every name that `build` accepts, short forms first."""
    short = [row.name for row in (*_SIZES, *_OTHERS)]
    return [*short, *(f"{row.name}-{mode}" for row in _SIZES for mode in PHI_MODES)]


def variant(name: str) -> Variant:
    """The row of `name`; its config says domain raw.

    Raises:
        ModelError: no such name.
    """
    for row in _OTHERS:
        if name == row.name:
            return row
    for row in _SIZES:
        for mode in (None, *PHI_MODES):
            if name == (row.name if mode is None else f"{row.name}-{mode}"):
                return replace(row, name=name, config=_with_phi(row.config, mode or DEFAULT_PHI))
    close = get_close_matches(name, names())
    raise ModelError(
        f"no network is called {name!r}",
        expected="a name from `pockethdr models`, or package.module:factory, or file.py:factory",
        fix=f"did you mean {' or '.join(close)}?" if close else "name your own network's factory",
    )


def build(name: str, domain: str) -> Network:
    """A network with fresh weights, in evaluation mode; its switches are its `config`.

    The mobile networks see the square root of raw frames. rgb frames hold an encoded copy already.
    """
    config = replace(variant(name).config, domain=domain)
    return network(config if domain == RAW else replace(config, input_coding=LINEAR)).eval()


def network(config: NetworkConfig) -> Network:
    """The network that these switches are of, with fresh weights, in training mode."""
    return _NETWORKS[type(config)](config)


def shipped_weights(name: str, domain: str) -> Path | None:
    """The weights that come with the package, None when there are none for this pair."""
    path = WEIGHTS / f"{name}-{domain}.safetensors"
    if not path.exists() and name.endswith(f"-{DEFAULT_PHI}"):
        path = WEIGHTS / f"{name.removesuffix(f'-{DEFAULT_PHI}')}-{domain}.safetensors"
    return path if path.exists() else None


def _with_phi(config: NetworkConfig, mode: str) -> DsanConfig:
    """One Φ per image is cheap, so the full network can afford the latent of its golden count."""
    assert isinstance(config, DsanConfig)
    widest = config.block_type == "drdb" and mode == GLOBAL
    return replace(config, phi_mode=mode, latent=16 if widest else config.latent)
