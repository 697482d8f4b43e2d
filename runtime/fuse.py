"""A bracket and an artifact → one HDR image of the whole frame."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pockethdr.brackets.bracket import RAW, Bracket, Camera, Frame, flip, unpack
from pockethdr.errors import ArtifactError
from pockethdr.runtime.artifact import Deployed, deployed
from pockethdr.runtime.develop import camera_to_srgb, demosaic, tone_mapped, upright
from pockethdr.runtime.runner import Array, Frames, Runner, open_runner
from pockethdr.runtime.tiling import Progress, Span, Tile, assembled, reflected, stream, tiles

# What a tile sees beyond its own where no halo makes it exact: enough to hide the seams.
_INEXACT_HALO_SHARE = 8


@dataclass(frozen=True)
class HDRImage:
    """What a network made of a bracket.

    Attributes:
        pixels: C×H×W float32 linear, 1.0 = clip level of the short frame. raw: packed RGGB, in the
            flipped geometry of the network; rgb: as it is.
        domain: raw or rgb.
        camera: of the bracket; None for rgb.
        orientation: EXIF 1..8 of the frames; `pixels` and `rgb()` are in sensor orientation.
        flips: (vertical, horizontal) to undo.
        runner: precisely what ran the artifact.
        tiles: how many runs made the image.
        seconds: wall time per stage.
        notes: what a reader of the result must know, e.g. that tiles are not exact.
    """

    pixels: Array
    domain: str
    camera: Camera | None
    orientation: int
    flips: tuple[bool, bool]
    runner: str
    tiles: int
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def rgb(self) -> Array:
        """H×W×3 linear sRGB in sensor orientation; white-balanced raw may exceed 1."""
        if self.domain != RAW:
            return np.ascontiguousarray(self.pixels.transpose(1, 2, 0))
        camera = self.camera or Camera()
        developed = camera_to_srgb(demosaic(unpack(self.pixels), camera.wb_gains), camera)
        return flip(developed.transpose(2, 0, 1), self.flips).transpose(1, 2, 0)

    def preview(self, *, exposure: float = 0.0) -> np.ndarray:
        """8-bit sRGB H×W×3, tone mapped and turned upright; `exposure` in stops."""
        return upright(tone_mapped(self.rgb(), exposure=exposure), self.orientation)


def fuse(
    artifact: Path, bracket: Bracket, *, threads: int = 2, progress: Progress | None = None
) -> HDRImage:
    """Run an exported artifact over a whole bracket, tile by tile.

    Args:
        artifact: inside its export folder, whose manifest it is checked against.
        threads: CPU threads of the runtime.
        progress: called with (tiles done, tiles in all).

    Raises:
        ArtifactError: the artifact is damaged, stale, or of another domain than the bracket.
        Unavailable: this host cannot run it.
    """
    begin = time.perf_counter()
    found = deployed(artifact)
    _check_domain(found, bracket)
    with closing(open_runner(artifact, found.record.target, threads=threads)) as runner:
        loaded = time.perf_counter()
        halo, notes = _halo(found, bracket.size())
        plan = tiles(bracket.size(), found.manifest.size, halo, found.manifest.multiple)
        timed = _Stopwatch(runner, frames_at(bracket))
        pixels = assembled(stream(timed.run, timed.cut, plan, progress), bracket.size())[0]
        whole = time.perf_counter() - loaded
        seconds = {
            "load": loaded - begin,
            "cut": timed.cutting,
            "run": timed.running,
            "assemble": whole - timed.cutting - timed.running,
        }
        return HDRImage(
            pixels,
            bracket.domain,
            bracket.camera,
            bracket.orientation,
            bracket.flips,
            runner.name,
            len(plan),
            seconds,
            notes,
        )


def frames_at(bracket: Bracket) -> Callable[[Tile], Frames]:
    """The network's frames of one tile, made when asked for.

    The inputs of a whole frame are several times the size of its pixels; they never exist at once.
    """

    def at(tile: Tile) -> Frames:
        short, mid, long = (_cropped(frame, bracket.domain, tile) for frame in bracket.frames)
        return replace(bracket, frames=(short, mid, long), ground_truth=None).inputs()

    return at


def _cropped(frame: Frame, domain: str, tile: Tile) -> Frame:
    """A frame's pixels under a tile of the network's grid, reflected beyond the far borders."""
    quad = 2 if domain == RAW else 1
    height, width = frame.pixels.shape[:2]
    rows, columns = _window(tile.rows, height, quad), _window(tile.columns, width, quad)
    return replace(frame, pixels=frame.pixels[rows][:, columns])


def _window(span: Span, size: int, quad: int) -> slice | np.ndarray:
    """What a span reads along an axis of `size` pixels: a slice, or indices where it reflects.

    Whole colour quads are reflected, so that every site keeps its colour.
    """
    if (span.start + span.length) * quad <= size:
        return slice(span.start * quad, (span.start + span.length) * quad)
    cells = reflected(span.indices(), size // quad)
    return np.asarray((cells[:, None] * quad + np.arange(quad)).reshape(-1))


def _halo(found: Deployed, size: tuple[int, int]) -> tuple[int, tuple[str, ...]]:
    tile, halo = found.manifest.size, found.manifest.halo
    if halo is not None:
        return halo, ()
    if size[0] <= tile[0] and size[1] <= tile[1]:
        return 0, ()
    note = (
        f"{found.manifest.model} looks at its whole input at once: each {tile[0]}×{tile[1]} tile "
        "decides for itself, and the image differs from one that is run whole"
    )
    return min(tile) // _INEXACT_HALO_SHARE, (note,)


def _check_domain(found: Deployed, bracket: Bracket) -> None:
    if found.manifest.domain != bracket.domain:
        raise ArtifactError(
            f"{found.path} takes {found.manifest.domain} brackets, "
            f"{bracket.name} is {bracket.domain}",
            expected="an artifact and a bracket of one domain",
            fix=f"export the model again with --domain {bracket.domain}",
        )


class _Stopwatch:
    """Sums what cutting and running take over all tiles."""

    def __init__(self, runner: Runner, source: Callable[[Tile], Frames]) -> None:
        self._runner, self._source = runner, source
        self.cutting = self.running = 0.0

    def cut(self, tile: Tile) -> Frames:
        begin = time.perf_counter()
        frames = self._source(tile)
        self.cutting += time.perf_counter() - begin
        return frames

    def run(self, frames: Frames) -> Array:
        begin = time.perf_counter()
        out = self._runner.run(frames)
        self.running += time.perf_counter() - begin
        return out
