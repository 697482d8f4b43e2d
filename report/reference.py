"""The untouched PyTorch network of an export, run exactly as its artifacts are: tile by tile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from pockethdr.errors import ArtifactError
from pockethdr.export.manifest import Manifest, sha256_of
from pockethdr.models.load import load_model
from pockethdr.runtime.runner import Array, Frames
from pockethdr.runtime.tiling import Progress, Run, run_tiled


class Reference:
    """The network with the weights that were exported.

    Raises:
        ArtifactError: the weights are missing, or not those of the export.
        ModelError, WeightsError: the network cannot be made again.
    """

    def __init__(self, out: Path, manifest: Manifest, *, threads: int) -> None:
        weights = _weights(out, manifest)
        loaded = load_model(manifest.spec, domain=manifest.domain, weights=weights)
        self._module = loaded.module.eval()
        self._manifest, self._threads = manifest, threads

    def run(self, frames: Frames, progress: Progress | None = None) -> Array:
        """HDR 1×C×H×W of whole frames, on the tiles of the artifacts."""
        with torch.no_grad(), _threads(self._threads):
            return tiled(self._tile, frames, self._manifest, progress)

    def _tile(self, frames: Frames) -> Array:
        out = self._module(*(torch.from_numpy(frame) for frame in frames))
        return np.asarray(out.numpy(), np.float32)


def tiled(run: Run, frames: Frames, manifest: Manifest, progress: Progress | None) -> Array:
    """`run` over whole frames on the tile, halo and multiple of an export."""
    return run_tiled(
        run,
        frames,
        tile=manifest.size,
        # Without a finite halo any will do: artifact and reference see the same tiles.
        halo=min(manifest.size) // 8 if manifest.halo is None else manifest.halo,
        multiple=manifest.multiple,
        progress=progress,
    )


def _weights(out: Path, manifest: Manifest) -> Path | None:
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
