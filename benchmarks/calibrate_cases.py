"""The cases of `calibrate_scale.py`, each run in a process of its own; prints a JSON object a line.

Every line is what had been used by then: brackets and patches seen, wall and processor seconds from
the first patch on, and the peak of the whole process's memory in MiB, libraries included.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np

from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.runtime.latency import peak_memory_mb

MODEL, DOMAIN, TILE = "dsan-m32", "raw", (256, 256)


class Meter:
    """Prints what was used since it was made."""

    def __init__(self, patches: int) -> None:
        self.patches, self.wall, self.cpu = patches, time.perf_counter(), time.process_time()

    def read(self, brackets: float) -> None:
        found = {
            "brackets": brackets,
            "patches": round(brackets * self.patches),
            "seconds": time.perf_counter() - self.wall,
            "cpu_seconds": time.process_time() - self.cpu,
            "peak_memory_mb": peak_memory_mb(),
        }
        print(json.dumps(found), flush=True)


def ours(root: Path, patches: int, counts: Sequence[int]) -> None:
    """`calibrate` over all brackets under `root`; a line each time `counts` have been seen."""
    from pockethdr.calibration.observe import calibrate
    from pockethdr.export.static import static_program
    from pockethdr.models.load import load_model

    program = static_program(load_model(MODEL, domain=DOMAIN), size=TILE).program
    folders = find_brackets(root, domain=DOMAIN)[: max(counts)]
    meter, seen = Meter(patches), list[str]()

    def told(name: str) -> None:
        seen.append(name)
        if len(seen) in counts:
            meter.read(len(seen))

    calibrate(
        program, folders, seed=0, tile=TILE, patches_per_bracket=patches, progress=told
    )  # fmt: skip


def onnx_runtime(root: Path, patches: int, artifact: Path, total: int) -> None:
    """ONNX Runtime's percentile calibrator over `total` such patches, in one `collect_data`."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = _samples(root, patches, total)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.samples, None)

    with tempfile.TemporaryDirectory() as scratch:
        calibrator = create_calibrator(
            str(artifact),
            augmented_model_path=str(Path(scratch) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
        )
        meter = Meter(patches)
        calibrator.collect_data(Reader())
        calibrator.compute_data()
        meter.read(total / patches)


def _samples(root: Path, patches: int, total: int) -> Iterator[dict[str, np.ndarray]]:
    """The patches that `ours` sees, in number `total`."""
    from pockethdr.calibration.patches import Patches, chosen_patches

    left = total
    for folder in find_brackets(root, domain=DOMAIN):
        found = Patches(read_bracket(folder, domain=DOMAIN, stream=True), TILE)
        for place in chosen_patches(found, patches, 0):
            if left == 0:
                return
            left -= 1
            yield dict(zip(("short", "mid", "long"), found.at(place), strict=True))


@click.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--patches", type=int, required=True, help="Of a bracket.")
@click.option("--counts", help="Ours: numbers of brackets, with commas.")
@click.option("--onnx", type=click.Path(path_type=Path), help="ONNX Runtime: an FP32 model.")
@click.option("--total", type=int, help="ONNX Runtime: patches in all.")
def main(
    root: Path, patches: int, counts: str | None, onnx: Path | None, total: int | None
) -> None:
    """Run one case."""
    if onnx is None:
        run = partial(ours, counts=[int(count) for count in str(counts).split(",")])
    else:
        run = partial(onnx_runtime, artifact=onnx, total=total or 1)
    run(root, patches)


if __name__ == "__main__":
    sys.exit(main())
