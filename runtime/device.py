"""What a phone measured of an artifact: by LiteRT's `benchmark_model` over adb, or imported.

Figures of phones live in `OUT/devices.json`, beside the export they are of, and in the report.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.errors import PocketError
from pockethdr.export.manifest import read_manifest, sha256_of, write_bytes
from pockethdr.export.targets import input_names
from pockethdr.runtime.adb import Adb
from pockethdr.runtime.agreement import LEAST_DB, agreement
from pockethdr.runtime.runner import Array, Frames, open_runner

DEVICES_NAME = "devices.json"
#: How `benchmark_model` is told where to run.
ACCELERATORS = {
    "cpu": ("--use_xnnpack=true",),
    "gpu": ("--use_gpu=true", "--gpu_precision_loss_allowed=true"),
    "npu": ("--use_nnapi=true", "--nnapi_allow_fp16=true"),
}
_FOLDER = "/data/local/tmp/pockethdr"


@dataclass(frozen=True)
class DeviceRow:
    """One artifact on one accelerator of one device.

    Attributes:
        latency_ms: percentiles of one tile, as far as the runner gives them, e.g. `p50`, `p95`.
        thermal: status before and after, from 0 (none) to 6; or what the device calls it.
        psnr_vs_host: PSNR-µ in dB of the output tensor against the same artifact on the host.
        passed: None when the output was not compared.
        reason: why a figure is missing.
    """

    device: str
    system: str
    runtime: str
    accelerator: str
    artifact: str
    sha256: str
    latency_ms: dict[str, float] | None
    runs: int | None
    thermal: list[Any] | None
    peak_memory_mb: float | None
    psnr_vs_host: float | None
    passed: bool | None
    reason: str = ""


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
            _push_frames(adb, frames, Path(scratch))
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


def add_rows(out: Path, rows: Sequence[DeviceRow]) -> list[DeviceRow]:
    """Put rows into `OUT/devices.json`, each in place of an older one of the same kind."""
    merged = {_key(row): row for row in (*read_rows(out), *rows)}
    text = json.dumps([asdict(row) for row in merged.values()], indent=1, ensure_ascii=False)
    write_bytes(out / DEVICES_NAME, (text + "\n").encode(), overwrite=True)
    return list(merged.values())


def read_rows(out: Path) -> list[DeviceRow]:
    """The device rows of an export; none when nothing was measured.

    Raises:
        PocketError: the file holds something else.
    """
    file = out / DEVICES_NAME
    if not file.is_file():
        return []
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise PocketError(
            f"{file}: not JSON ({error})", fix="remove it, then measure again"
        ) from error
    return [row_of(data, file) for data in found]


def imported(result: Path, out: Path) -> DeviceRow:
    """A row from a file that another device's script printed, see docs/ios.md.

    Raises:
        PocketError: not such a file, or of an artifact that is not in `out`.
    """
    try:
        data = json.loads(result.read_text())
    except (OSError, ValueError) as error:
        raise PocketError(f"{result}: not JSON ({error})", expected="see docs/ios.md") from error
    row = row_of(data, result)
    known = {record.sha256 for record in read_manifest(out).artifacts}
    if row.sha256 not in known:
        raise PocketError(
            f"{result}: measured an artifact of sha256 {row.sha256[:12]}…, not one of {out}",
            expected="a result of an artifact of this export",
            fix="copy the export to the device again and measure again",
        )
    return row


def row_of(data: Any, source: Path) -> DeviceRow:
    """A row from its JSON.

    Raises:
        PocketError: fields are missing, unknown or of the wrong kind.
    """
    names = {field.name for field in fields(DeviceRow)}
    required = names - {"reason"}
    if not isinstance(data, dict) or not required <= set(data) <= names:
        found = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise PocketError(f"{source}: {found}", expected=f"the fields {', '.join(sorted(names))}")
    latency = data["latency_ms"]
    if latency is not None and not all(isinstance(v, int | float) for v in latency.values()):
        raise PocketError(f"{source}: latency_ms {latency}", expected="percentiles in milliseconds")
    return DeviceRow(**data)


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
        decibels = agreement(_pulled(adb).reshape(wanted.shape), wanted)
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


def _push_frames(adb: Adb, frames: Frames, scratch: Path) -> None:
    for name, frame in zip(input_names(frames), frames, strict=True):
        file = scratch / f"{name}.bin"
        file.write_bytes(np.ascontiguousarray(frame.transpose(0, 2, 3, 1), "<f4").tobytes())
        adb.push(file, f"{_FOLDER}/{name}.bin")


def _pulled(adb: Adb) -> Array:
    """The output tensor, flat, channels last as the artifact writes it."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "out.bin"
        adb.pull(f"{_FOLDER}/out.bin", file)
        return np.fromfile(file, "<f4").astype(np.float32)


def _on_host(artifact: Path, frames: Frames) -> Array:
    runner = open_runner(artifact, "tflite", threads=2)
    try:
        return np.ascontiguousarray(runner.run(frames).transpose(0, 2, 3, 1))
    finally:
        runner.close()


def _key(row: DeviceRow) -> tuple[str, ...]:
    return row.device, row.system, row.runtime, row.accelerator, row.sha256
