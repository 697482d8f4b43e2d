"""One tile of an artifact on a phone, by LiteRT's `benchmark_model` over adb."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pockethdr.errors import PocketError
from pockethdr.export.targets import input_names
from pockethdr.files import sha256_of
from pockethdr.runtime.agreement import LEAST_DB, agreement
from pockethdr.runtime.litert import coded_inputs, decoded_output
from pockethdr.runtime.phone.adb import Adb
from pockethdr.runtime.phone.rows import DeviceRow
from pockethdr.runtime.runner import Array, Frames, open_runner

#: How `benchmark_model` is told where to run.
ACCELERATORS = {
    "cpu": ("--use_xnnpack=true",),
    "gpu": ("--use_gpu=true", "--gpu_precision_loss_allowed=true"),
    "npu": ("--use_nnapi=true", "--nnapi_allow_fp16=true"),
}
_FOLDER = "/data/local/tmp/pockethdr"


def bench(
    artifact: Path,
    frames: Frames,
    adb: Adb,
    benchmark_model: Path,
    *,
    accelerators: Sequence[str] = tuple(ACCELERATORS),
    runs: int = 50,
) -> list[DeviceRow]:
    """Run one tile of an artifact on a phone.

    Args:
        frames: short, mid, long, 1×C×H×W of the artifact's size, and the context of those that have
            one, computed here: it is no part of the tile's latency.
        benchmark_model: LiteRT's tool for the phone's processor.

    Raises:
        PocketError: the device stops answering. An accelerator that fails is a row with a reason.
    """
    wanted = _on_host(artifact, frames)
    adb.shell(f"mkdir -p {_FOLDER}")
    try:
        for file in (artifact, benchmark_model):
            adb.push(file, f"{_FOLDER}/{file.name}")
        adb.shell(f"chmod 755 {_FOLDER}/{benchmark_model.name}")
        with tempfile.TemporaryDirectory() as scratch:
            _push_inputs(adb, coded_inputs(artifact, frames), Path(scratch))
        return [
            _row(artifact, adb, benchmark_model, name, wanted, frames, runs)
            for name in accelerators
        ]
    finally:
        adb.shell(f"rm -rf {_FOLDER}")


def parsed(output: str) -> tuple[dict[str, float], int | None, float | None]:
    """(latency in ms, runs, peak memory in MB) of what `benchmark_model` printed.

    Raises:
        PocketError: it holds no timings.
    """
    blocks = re.findall(r"count=(\d+)(.*)", output)
    if not blocks:
        last = next((line for line in reversed(output.splitlines()) if line.strip()), "nothing")
        raise PocketError(f"benchmark_model printed no timings: {last.strip()}")
    count, line = blocks[-1]  # the first block is the warm-up
    values = {k: float(v) / 1e3 for k, v in re.findall(r"(\w+)=([\d.e+]+)", line)}
    named = {"p50": values.get("median", values.get("avg", 0.0))}
    named |= {k: v for k, v in values.items() if re.fullmatch(r"p\d+", k)}
    memory = re.search(r"[Pp]eak memory footprint \(MB\):.*overall=([\d.]+)", output)
    return named, int(count), float(memory[1]) if memory else None


def _row(
    artifact: Path,
    adb: Adb,
    tool: Path,
    accelerator: str,
    wanted: Array,
    frames: Frames,
    runs: int,
) -> DeviceRow:
    phone, before = adb.phone(), adb.thermal_status()
    latency = count = memory = decibels = passed = None
    reason = ""
    try:
        output = adb.shell(_command(artifact, tool, accelerator, frames, runs))
        latency, count, memory = parsed(output)
        decibels = agreement(_pulled(adb, artifact).reshape(wanted.shape), wanted)
        passed = decibels is not None and decibels >= LEAST_DB
        reason = "" if decibels is not None else f"{accelerator}: returns NaN or infinity"
    except (PocketError, ValueError) as error:
        reason = f"{accelerator}: {error.what if isinstance(error, PocketError) else error}"
    return DeviceRow(
        device=f"{phone.model} ({phone.chip})",
        system=f"Android {phone.android}",
        runtime="LiteRT benchmark_model",
        accelerator=accelerator,
        artifact=artifact.name,
        sha256=sha256_of(artifact),
        latency_ms=latency,
        runs=count,
        thermal=[before, adb.thermal_status()],
        peak_memory_mb=memory,
        psnr_vs_host=decibels,
        passed=passed,
        reason=reason,
    )


def _command(artifact: Path, tool: Path, accelerator: str, frames: Frames, runs: int) -> str:
    names = input_names(frames)
    layers = [f"serving_default_{name}" for name in names]
    shapes = [f"{n},{h},{w},{c}" for n, c, h, w in (frame.shape for frame in frames)]
    files = [f"{layer}:{_FOLDER}/{name}.bin" for layer, name in zip(layers, names, strict=True)]
    flags = [
        f"--graph={_FOLDER}/{artifact.name}",
        f"--num_runs={runs}",
        "--warmup_runs=5",
        "--num_threads=4",
        "--report_peak_memory_footprint=true",
        f"--input_layer={','.join(layers)}",
        f"--input_layer_shape={':'.join(shapes)}",
        f"--input_layer_value_files={','.join(files)}",
        f"--output_filepath={_FOLDER}/out.bin",
        *ACCELERATORS[accelerator],
    ]
    return " ".join([f"rm -f {_FOLDER}/out.bin;", f"{_FOLDER}/{tool.name}", *flags])


def _push_inputs(adb: Adb, inputs: Sequence[np.ndarray], scratch: Path) -> None:
    for name, value in zip(input_names(inputs), inputs, strict=True):
        file = scratch / f"{name}.bin"
        file.write_bytes(value.tobytes())
        adb.push(file, f"{_FOLDER}/{name}.bin")


def _pulled(adb: Adb, artifact: Path) -> Array:
    """The output tensor, flat, channels last as the artifact writes it."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "out.bin"
        adb.pull(f"{_FOLDER}/out.bin", file)
        return decoded_output(artifact, file.read_bytes())


def _on_host(artifact: Path, frames: Frames) -> Array:
    runner = open_runner(artifact, "tflite", threads=2)
    try:
        return np.ascontiguousarray(runner.run(frames).transpose(0, 2, 3, 1))
    finally:
        runner.close()
