"""A network that looks at the whole image, exported to TFLite: a tile artifact and its context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from pockethdr.brackets.bracket import Bracket, Camera, Frame
from pockethdr.export import context
from pockethdr.export.pipeline import export_model
from pockethdr.export.recipe import named_recipe
from pockethdr.models.load import load_model
from pockethdr.runtime.artifact import Deployed, deployed

SIZE = 64
#: Of the context: a map of `Seeing`, as large as the tile.
CHANNELS = 8
NETWORK = """
import torch
from torch import nn
from torch.nn import functional as F


class Seeing(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(24, 8, 3, padding=1)
        self.mix = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short, mid, long):
        x = torch.relu(self.first(torch.cat([short, mid, long], 1)))
        cells = F.adaptive_avg_pool2d(x, 4)
        seen = torch.relu(self.mix(cells + cells.mean((2, 3), keepdim=True)))
        x = x + F.interpolate(seen, size=x.shape[-2:], mode="nearest")
        return torch.sigmoid(self.last(x))


def build():
    torch.manual_seed(0)
    net = Seeing()
    with torch.no_grad():
        net.mix.weight.mul_(8)
        net.last.weight.mul_(4)
    return net
"""


def exported(folder: Path) -> Deployed:
    """The INT8 artifact of 64×64 tiles in its export folder; its context is int8 too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seeing.py").write_text(NETWORK)
    with small_traces():
        export_model(
            load_model(f"{folder / 'seeing.py'}:build", domain="raw"),
            targets=("tflite",),
            precisions=("int8",),
            bracket_folders=[Path(str(files("pockethdr.brackets") / "sample"))],
            out=folder / "out",
            size=(SIZE, SIZE),
            recipe=named_recipe("full"),
            patches=2,
        )
    return deployed(next(f for f in (folder / "out").glob("*.tflite") if "context" not in f.name))


@contextmanager
def small_traces() -> Iterator[None]:
    """The cut is looked for at small sizes, which saves seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "_SMALL", 96)
        patch.setattr(context, "_LARGE", 192)
        yield


def bracket(height: int = 100, width: int = 140) -> Bracket:
    """Noise on a `height`×`width` grid, brighter on the right: no tile has the image's mean."""
    generator = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 2 * width, dtype=np.float32) ** 2
    shape = 2 * height, 2 * width
    frames = [Frame(None, ramp * generator.random(shape, dtype=np.float32), t) for t in (1, 4, 16)]
    return Bracket("ramp", "raw", tuple(frames), (1.0, 4.0, 16.0), Camera())  # type: ignore[arg-type]
