"""The one table of named networks.

`dsan-m32` alone is the shipped form; `dsan-m32-global`, `-grid` and `-pixel` name what Φ varies
over. See docs/decisions/002-default-phi-is-per-pixel.md for why the shipped form is per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pockethdr.errors import ModelError
from pockethdr.models.dsan import Dsan, DsanConfig
from pockethdr.models.dynamic_conv import GLOBAL, GRID, PIXEL

DEFAULT_PHI = PIXEL
PHI_MODES = (GLOBAL, GRID, PIXEL)
DOMAINS = ("raw", "rgb")
WEIGHTS = Path(__file__).parent / "weights"

_FULL = DsanConfig(latent=8)
_MOBILE = DsanConfig(
    latent=8, squeeze=16, block_type="res", down=2, act="relu", tail=1, act_between=True
)


@dataclass(frozen=True)
class Variant:
    """One row: a network and what it is for."""

    name: str
    config: DsanConfig
    purpose: str


_SIZES = (
    Variant("dsan-full", _FULL, "quality, tiled"),
    Variant("dsan-m48", replace(_MOBILE, channels=48), "flagship phones"),
    Variant("dsan-m32", replace(_MOBILE, channels=32), "the default on phones"),
    Variant("dsan-m24", replace(_MOBILE, channels=24, latent=4), "mid-range phones"),
    Variant("dsan-m16", replace(_MOBILE, channels=16, latent=4), "viewfinder"),
)


def names() -> list[str]:
    """Every name that `build` accepts, short forms first."""
    return [*(v.name for v in _SIZES), *(f"{v.name}-{m}" for v in _SIZES for m in PHI_MODES)]


def variant(name: str) -> Variant:
    """The row of `name`; its config says domain raw.

    Raises:
        ModelError: no such name.
    """
    for row in _SIZES:
        for mode in (None, *PHI_MODES):
            if name == (row.name if mode is None else f"{row.name}-{mode}"):
                return replace(row, name=name, config=_with_phi(row.config, mode or DEFAULT_PHI))
    raise ModelError(
        f"no network is called {name!r}",
        expected=", ".join(names()) + ", or package.module:factory, or file.py:factory",
    )


def build(name: str, domain: str) -> Dsan:
    """A network with fresh weights, in evaluation mode."""
    return Dsan(replace(variant(name).config, domain=domain)).eval()


def shipped_weights(name: str, domain: str) -> Path | None:
    """The weights that come with the package, None when there are none for this pair."""
    path = WEIGHTS / f"{name}-{domain}.safetensors"
    if not path.exists() and name.endswith(f"-{DEFAULT_PHI}"):
        path = WEIGHTS / f"{name.removesuffix(f'-{DEFAULT_PHI}')}-{domain}.safetensors"
    return path if path.exists() else None


def _with_phi(config: DsanConfig, mode: str) -> DsanConfig:
    """One Φ per image is cheap, so the full network can afford the latent of its golden count."""
    widest = config.block_type == "drdb" and mode == GLOBAL
    return replace(config, phi_mode=mode, latent=16 if widest else config.latent)
