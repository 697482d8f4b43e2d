"""The untouched PyTorch network of an export, run exactly as its artifacts are: tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pockethdr.brackets.bracket import Bracket
from pockethdr.errors import ArtifactError
from pockethdr.export.context import split
from pockethdr.export.manifest import Manifest
from pockethdr.export.static import static_program
from pockethdr.files import sha256_of
from pockethdr.models.load import load_model
from pockethdr.runtime.context import Context, inputs_at
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.runner import Array, Frames
from pockethdr.runtime.tiling import Progress, Run, Tile, assembled, planned, stream


class Reference:
    """The network with the weights that were exported, made again by the spec of the manifest: the
    caller has asked `check_trusted`, on the machine of the user.

    Raises:
        ArtifactError: the weights are missing, or not those of the export.
        ModelError, WeightsError: the network cannot be made again.
    """

    def __init__(self, out: Path, manifest: Manifest, *, threads: int) -> None:
        weights = exported_weights(out, manifest)
        loaded = load_model(manifest.spec, domain=manifest.domain, weights=weights)
        self._module: nn.Module = loaded.module.eval()
        self._context: nn.Module | None = None
        self._manifest, self._threads = manifest, threads
        if manifest.context is not None:
            program = static_program(loaded, size=manifest.size, allow_dynamic=True).program
            self._context, self._module = split(program, manifest.context)

    def run(self, bracket: Bracket, progress: Progress | None = None) -> Array:
        """HDR 1×C×H×W of whole frames, on the tiles of the artifacts."""
        with torch.no_grad(), _threads(self._threads):
            context = self._seen(bracket)
            return tiled(self._tile, bracket.inputs(), self._manifest, progress, context)

    def _seen(self, bracket: Bracket) -> Context | None:
        record, feed = self._manifest.context, Feed(bracket)
        if record is None or self._context is None:
            return None
        thumbnails = [feed.thumbnail(index, self._manifest.size) for index in range(3)]
        return Context(_run(self._context, thumbnails), record, bracket.size())

    def _tile(self, frames: Frames) -> Array:
        return _run(self._module, frames)


def tiled(
    run: Run,
    frames: Frames,
    manifest: Manifest,
    progress: Progress | None = None,
    context: Context | None = None,
) -> Array:
    """`run` over whole frames on the tile, halo and multiple of an export."""
    size = frames[0].shape[2], frames[0].shape[3]
    plan, _ = planned(manifest, size)

    def at(tile: Tile) -> Frames:
        return inputs_at(tile, frames, context)

    return assembled(stream(run, at, plan, progress), size)


def _run(module: nn.Module, frames: Frames) -> Array:
    out = module(*(torch.from_numpy(frame) for frame in frames))
    return np.asarray(out.numpy(), np.float32)


def exported_weights(out: Path, manifest: Manifest) -> Path | None:
    """The weights that were exported, checked against their sha256; None for a network without.

    Raises:
        ArtifactError: missing, or not those of the export.
    """
    if manifest.weights is None:
        return None
    path = out / manifest.weights.file
    fix = "export the model again, or copy the whole folder again"
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: nothing to compare the artifacts with", fix=fix)
    if sha256_of(path) != manifest.weights.sha256:
        raise ArtifactError(f"{path} is not what was exported", expected="its sha256", fix=fix)
    return path


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
