"""Running a fixed-size network over an image of any size.

At the image's far borders tiles are shifted inwards instead of being padded, so that a network that
pads with zeros sees them exactly where a whole run would show them. Two neighbours overlap by
at least twice the halo, and the cut between them runs through the middle of it: each output
pixel's block of `multiple` comes from one tile, at least `halo` away from any border that is not
the image's own. With `halo` ≥ the network's receptive radius the result equals the whole run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from pockethdr.errors import PocketError
from pockethdr.export.manifest import Manifest
from pockethdr.export.tile import least_tile, whole_blocks
from pockethdr.runtime.runner import Array, Frames

Progress = Callable[[int, int], None]
Run = Callable[[Frames], Array]

# What a tile sees beyond its own where no halo makes it exact: enough to hide the seams.
_INEXACT_HALO_SHARE = 8


@dataclass(frozen=True)
class Span:
    """One tile along one axis: it reads `start .. start + length` and owns `own[0] .. own[1]`.

    `start + length` may lie beyond the image; `reflected` says what is read there.
    """

    start: int
    length: int
    own: tuple[int, int]

    def indices(self) -> NDArray[np.intp]:
        return np.arange(self.start, self.start + self.length)

    def owned(self) -> slice:
        """Where the owned pixels lie in the image."""
        return slice(*self.own)

    def inside(self) -> slice:
        """Where the owned pixels lie in the tile."""
        return slice(self.own[0] - self.start, self.own[1] - self.start)


@dataclass(frozen=True)
class Tile:
    """A tile of the network's grid."""

    rows: Span
    columns: Span


def planned(manifest: Manifest, size: tuple[int, int]) -> tuple[list[Tile], tuple[str, ...]]:
    """The tiles of an export over a frame, wherever they are run; and a note where they show.

    Args:
        size: H, W of the frame on the network's grid.

    Raises:
        PocketError: see `tiles`.
    """
    tile, halo = manifest.size, manifest.halo
    if halo is None:
        halo = _inexact_halo(min(tile), manifest.multiple)
    plan = tiles(size, tile, halo, manifest.multiple)
    if manifest.halo is not None or len(plan) == 1:
        return plan, ()
    note = (
        f"what {manifest.model} makes of a pixel depends on all of its input, or on where in it "
        f"the pixel lies: each {tile[0]}×{tile[1]} tile decides for itself, and the image differs "
        "from one that is run whole"
    )
    return plan, (note,)


def _inexact_halo(side: int, multiple: int) -> int:
    """A share of the tile, in whole blocks, that leaves it at least one to own."""
    wanted = whole_blocks(side // _INEXACT_HALO_SHARE, multiple)
    return min(wanted, (side // multiple - 1) // 2 * multiple)


def tiles(size: tuple[int, int], tile: tuple[int, int], halo: int, multiple: int = 1) -> list[Tile]:
    """Tiles that own every pixel of `size` exactly once, row by row.

    Args:
        size: H, W of the image on the network's grid, any positive size.
        tile: H, W of the network's fixed input.
        halo: pixels that a tile must see beyond the blocks of what it owns.
        multiple: tiles start at multiples of this, to keep the phase of strided networks.

    Raises:
        PocketError: the tile is no multiple, or too small for its halo.
    """
    rows = _spans(size[0], tile[0], halo, multiple)
    columns = _spans(size[1], tile[1], halo, multiple)
    return [Tile(row, column) for row, column in product(rows, columns)]


def run_tiled(
    run: Run,
    frames: Frames,
    *,
    tile: tuple[int, int],
    halo: int,
    multiple: int = 1,
    progress: Progress | None = None,
) -> Array:
    """HDR of whole frames by a network of fixed size.

    Args:
        run: three N×C×tile frames → N×C'×tile; N as in `frames`.
        frames: three N×C×H×W arrays; beyond the far borders they are reflected where needed.
        progress: called with (tiles done, tiles in all).

    Returns:
        N×C'×H×W float32.
    """
    height, width = frames[0].shape[-2:]
    plan = tiles((height, width), tile, halo, multiple)
    pieces = stream(run, lambda place: [cut(f, place) for f in frames], plan, progress)
    return assembled(pieces, (height, width))


def stream(
    run: Run,
    frames_at: Callable[[Tile], Frames],
    plan: Sequence[Tile],
    progress: Progress | None = None,
) -> Iterator[tuple[Tile, Array]]:
    """Each tile of `plan` with the output pixels that it owns, one at a time."""
    for done, tile in enumerate(plan, start=1):
        out = run(frames_at(tile))
        yield tile, out[..., tile.rows.inside(), tile.columns.inside()]
        if progress is not None:
            progress(done, len(plan))


def assembled(pieces: Iterator[tuple[Tile, Array]], size: tuple[int, int]) -> Array:
    """The N×C×H×W image that the pieces of all tiles make up; only it and one piece are held."""
    image: Array | None = None
    for tile, piece in pieces:
        if image is None:
            image = np.empty((*piece.shape[:2], *size), np.float32)
        image[..., tile.rows.owned(), tile.columns.owned()] = piece
    assert image is not None  # every size has a tile
    return image


def cut(image: np.ndarray, tile: Tile) -> np.ndarray:
    """The tile's input, cut from …×H×W."""
    rows = reflected(tile.rows.indices(), image.shape[-2])
    columns = reflected(tile.columns.indices(), image.shape[-1])
    return np.ascontiguousarray(image[..., rows[:, None], columns[None, :]])


def reflected(indices: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Indices beyond 0 .. size - 1, mirrored back inside without repeating the border."""
    if size == 1:
        return np.zeros_like(indices)
    folded = np.abs(indices) % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)


def _spans(size: int, tile: int, halo: int, multiple: int) -> list[Span]:
    starts = _starts(size, tile, halo, multiple)
    # The middle of the overlap is as far as can be from the borders of both neighbours: whole
    # blocks, or half a block more than the halo.
    cuts = [(following + start + tile) // 2 for start, following in pairwise(starts)]
    borders = [0, *cuts, size]
    return [Span(start, tile, own) for start, own in zip(starts, pairwise(borders), strict=True)]


def _starts(size: int, tile: int, halo: int, multiple: int) -> list[int]:
    if tile % multiple or tile <= 0:
        raise PocketError(f"tile of {tile} pixels", expected=f"a positive multiple of {multiple}")
    if size <= 0:
        raise PocketError(f"an image of {size} pixels", expected="at least one")
    # A network of stride `multiple` sees an image filled up to a multiple of it.
    last = max(0, whole_blocks(size, multiple) - tile)
    if last == 0:
        return [0]
    step = tile - 2 * whole_blocks(halo, multiple)
    if step <= 0:
        raise PocketError(
            f"tile of {tile} pixels with a halo of {halo} on each side",
            expected=f"a tile of at least {least_tile(halo, multiple)}",
            fix="export the model again with a larger --size",
        )
    return [*range(0, last, step), last]
