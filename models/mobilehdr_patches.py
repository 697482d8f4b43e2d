"""Training batches from Mobile-HDR as it is published: random crops, no flips.

A flip would move the colour sites of the Bayer pattern by a pixel; the official loader has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from pockethdr.brackets.mobilehdr import order_of, read_npz
from pockethdr.errors import BracketError
from pockethdr.models.loader import Batch

_TRAINING = "training_npz"
# Whole frames are large (a third of a gigabyte at 12 megapixels): few stay in memory.
_KEPT = 8


def training_files(root: Path) -> list[Path]:
    """The training files under `root`, sorted: `…/training_npz/{static_translate,dynamic}/*.npz`.

    Where no folder is called so, every .npz under `root` that is not below a `test_npz` folder.

    Raises:
        BracketError: there is none.
    """
    found = sorted(path for path in root.rglob("*.npz") if not path.name.startswith("."))
    named = [path for path in found if _TRAINING in path.parts]
    files = named or [path for path in found if "test_npz" not in path.parts]
    if not files:
        raise BracketError(
            f"{root}: no training files",
            expected="Mobile-HDR/NPZ_data/training_npz/…/*.npz",
            fix="name the folder that the data set was unpacked into",
        )
    return files


def common_order(files: Sequence[Path], channel_order: str | None) -> str:
    """The order of all files' channels, see `brackets.mobilehdr.order_of`.

    Raises:
        BracketError: folders state several.
    """
    one_of = {path.parent: path for path in files}
    stated = {folder: order_of(path, channel_order) for folder, path in one_of.items()}
    if len(set(stated.values())) > 1:
        listed = ", ".join(f"{folder.name} {order}" for folder, order in stated.items())
        raise BracketError(
            f"files with channels in several orders ({listed})",
            expected="one order",
            fix="--channel-order, or one metadata.json above them all",
        )
    return next(iter(stated.values()))


@dataclass
class MobileHdrPatches:
    """An endless, seeded stream of batches. Batch n is the same whenever it is asked for.

    Attributes:
        side: of a patch, in packed pixels.
        channel_order: of the stored channels, RGGB or BGGR.
        stream: patches of another stream are drawn apart from this one's.
    """

    files: list[Path]
    side: int
    batch: int
    seed: int
    stream: int = 0
    channel_order: str = "RGGB"

    def get(self, step: int) -> Batch:
        """Short, mid, long (N×8×side×side) and ground truth (N×4×side×side) of one step."""
        rng = np.random.default_rng((self.seed, self.stream, step))
        return self._batch(rng, self.batch)

    def fixed(self, count: int) -> Batch:
        """A batch apart from the stream, for the running PSNR."""
        return self._batch(np.random.default_rng((self.seed, self.stream)), count)

    def _batch(self, rng: np.random.Generator, count: int) -> Batch:
        crops = [self._crop(rng) for _ in range(count)]
        short, mid, long, truth = (
            torch.from_numpy(np.concatenate(parts)) for parts in zip(*crops, strict=True)
        )
        return short, mid, long, truth

    def _crop(self, rng: np.random.Generator) -> list[np.ndarray]:
        path = self.files[rng.integers(len(self.files))]
        arrays = _arrays(path, self.channel_order)
        height, width = arrays[0].shape[-2:]
        if min(height, width) < self.side:
            raise BracketError(
                f"{path}: {height}×{width} packed pixels",
                expected=f"at least {self.side}×{self.side}",
                fix="train on smaller patches: --patch",
            )
        top, left = rng.integers(0, (height - self.side + 1, width - self.side + 1))
        return [a[..., top : top + self.side, left : left + self.side] for a in arrays]


@lru_cache(maxsize=_KEPT)
def _arrays(path: Path, channel_order: str) -> tuple[np.ndarray, ...]:
    bracket = read_npz(path, channel_order=channel_order)
    if bracket.ground_truth is None:
        raise BracketError(f"{path}: no ground truth", expected="an hdr array to learn from")
    return (*bracket.inputs(), bracket.ground_truth[None])
