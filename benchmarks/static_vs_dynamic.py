"""What a constant weight is worth: dynamic convolutions as written, and rewritten, in LiteRT.

    OMP_NUM_THREADS=1 python benchmarks/static_vs_dynamic.py --json docs/static_vs_dynamic.json

One network of four dynamic convolutions (C = 48, L = 8, as wide as `dsan-m48`) is exported three
times with the same weights: untouched, rewritten, and with its dynamic part left out, which is the
limit that no rewrite can pass. All run in turn, in one process, one thread, and the median of the
runs is shown. Then both are quantised to INT8 by `litert_quantizer`'s default recipe, to see which
of them load at all. The numbers rank graphs on this host's CPU; they say nothing about a phone's.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, fx, nn

from pockethdr.export.quiet import quiet
from pockethdr.export.rewrite import apply_rewrites
from pockethdr.export.static import standard_rewrites
from pockethdr.export.tflite import tflite_from_program, undelegated
from pockethdr.export.trace import traced
from pockethdr.files import write_bytes
from pockethdr.models.dynamic_conv import GLOBAL, PIXEL, STATIC, DynamicConv, DynamicSpec
from pockethdr.models.reference import PerPixelKernels
from pockethdr.report.host import host

CHANNELS, LATENT, LAYERS = 48, 8, 4


@dataclass(frozen=True)
class Case:
    """One comparison; `goal` is the least ratio that is wanted of untouched over rewritten."""

    phi: str
    batch: int
    size: int
    goal: float


CASES = (Case(GLOBAL, 1, 128, 2.5), Case(GLOBAL, 2, 128, 15.0), Case(PIXEL, 1, 32, 30.0))


@dataclass(frozen=True)
class Result:
    """Milliseconds of one run; INT8 entries are milliseconds, or the message of the failure."""

    phi: str
    batch: int
    size: int
    dynamic_ms: float
    static_ms: float
    plain_ms: float
    ratio: float
    goal: float
    over_plain: float
    dynamic_undelegated: dict[str, int]
    static_undelegated: dict[str, int]
    largest_difference: float
    dynamic_int8: float | str
    static_int8: float | str


class Stack(nn.Module):
    """Four filters in a row, each conditioned on the reference frame."""

    def __init__(self, mode: str, *, kernels: bool = False) -> None:
        super().__init__()
        spec = DynamicSpec(CHANNELS, CHANNELS, 2 * CHANNELS, LATENT, LATENT, 16, mode)
        self.read = nn.Conv2d(8, CHANNELS, 3, padding=1)
        filters = [DynamicConv(spec) for _ in range(LAYERS)]
        self.filters = nn.ModuleList(PerPixelKernels(f) if kernels else f for f in filters)
        self.write = nn.Conv2d(CHANNELS, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        reference = torch.relu(self.read(mid))
        x = torch.relu(self.read(short)) + torch.relu(self.read(long))
        for layer in self.filters:
            x = torch.relu(layer(x, torch.cat([x, reference], 1)))
        return torch.sigmoid(self.write(x))


def measure(case: Case, runs: int) -> Result:
    torch.manual_seed(0)
    frames = tuple(torch.rand(case.batch, 8, case.size, case.size) for _ in range(3))
    untouched = traced(Stack(case.phi, kernels=case.phi == PIXEL).eval(), frames)
    rewritten = apply_rewrites(untouched, standard_rewrites(), [frames]).program
    plain = traced(Stack(STATIC).eval(), frames)
    files = [_tflite(program, frames) for program in (untouched, rewritten, plain)]
    engines = [Engine(data, frames) for data in files]
    dynamic, static, limit = in_turn(engines, runs)
    difference = float(np.abs(engines[0].output - engines[1].output).max())
    return Result(
        case.phi, case.batch, case.size, dynamic, static, limit,
        dynamic / static, case.goal, static / limit,
        undelegated(files[0]), undelegated(files[1]), difference,
        *(_int8(data, frames, runs) for data in files[:2]),
    )  # fmt: skip


class Engine:
    """One flatbuffer ready to run."""

    def __init__(self, data: bytes, frames: tuple[Tensor, ...]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet():
            self.interpreter = Interpreter(model_content=data, num_threads=1)
            self.interpreter.allocate_tensors()
        inputs = sorted(self.interpreter.get_input_details(), key=lambda d: d["name"])
        by_name = sorted(zip(("short", "mid", "long"), frames, strict=True))
        for detail, (_, frame) in zip(inputs, by_name, strict=True):
            value = frame.permute(0, 2, 3, 1).contiguous().numpy()
            scale, zero = detail["quantization"]
            if scale:
                value = np.clip(np.round(value / scale) + zero, -128, 127).astype(np.int8)
            self.interpreter.set_tensor(detail["index"], value)

    def run(self) -> float:
        start = time.perf_counter()
        self.interpreter.invoke()
        return (time.perf_counter() - start) * 1e3

    @property
    def output(self) -> np.ndarray:
        (detail,) = self.interpreter.get_output_details()
        return self.interpreter.get_tensor(detail["index"])


def in_turn(engines: list[Engine], runs: int) -> list[float]:
    """Median milliseconds of each engine, run A B C A B C …, after one warm-up each."""
    times: list[list[float]] = [[] for _ in engines]
    for turn in range(runs + 1):
        for engine, found in zip(engines, times, strict=True):
            took = engine.run()
            if turn:
                found.append(took)
    return [statistics.median(found) for found in times]


def _tflite(program: fx.GraphModule, frames: tuple[Tensor, ...]) -> bytes:
    return tflite_from_program(program, frames, integer=False)


def _int8(data: bytes, frames: tuple[Tensor, ...], runs: int) -> float | str:
    """Milliseconds after the tool's own static INT8 recipe, or how it failed."""
    try:
        with quiet():
            return in_turn([Engine(_integer(data, frames), frames)], runs)[0]
    except Exception as error:  # whatever the tool or the runtime says is the result
        return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def int8_engine(program: fx.GraphModule, frames: tuple[Tensor, ...]) -> Engine:
    """A program in INT8 by the tool's own static recipe, ready to run."""
    with quiet():
        return Engine(_integer(_tflite(program, frames), frames), frames)


def _integer(data: bytes, frames: tuple[Tensor, ...]) -> bytes:
    from litert_quantizer import quantizer, recipe

    names = ("short", "mid", "long")
    sample = {n: f.permute(0, 2, 3, 1).numpy() for n, f in zip(names, frames, strict=True)}
    tool = quantizer.Quantizer(bytearray(data), recipe.static_wi8_ai8())
    ranges = tool.calibrate({"serving_default": [sample]}, num_threads=1)
    return bytes(tool.quantize(ranges).quantized_model)


@click.command()
@click.option("--json", "path", type=click.Path(path_type=Path), help="Where to write the figures.")
@click.option("--runs", default=11, show_default=True)
def main(path: Path | None, runs: int) -> None:
    """Measure every case and print a table."""
    torch.set_num_threads(1)
    results = []
    for case in track(CASES, "measuring", console=Console(stderr=True), transient=True):
        # A run of whole kernels at every pixel takes seconds: fewer of them.
        results.append(measure(case, runs if case.phi == GLOBAL else max(3, runs // 3)))
    click.echo(table(results))
    if path:
        rows: list[dict[str, Any]] = [asdict(replace(result)) for result in results]
        text = json.dumps({"host": host(), "rows": rows}, indent=1) + "\n"
        write_bytes(path, text.encode(), overwrite=True)


def table(results: list[Result]) -> str:
    lines = [
        "| Φ per | batch | size | as written, ms | rewritten, ms | plain 3×3, ms | times faster "
        "| over plain | INT8 as written | INT8 rewritten |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        where = "image" if r.phi == GLOBAL else "pixel"
        lines.append(
            f"| {where} | {r.batch} | {r.size}×{r.size} | {r.dynamic_ms:.1f} | {r.static_ms:.1f} "
            f"| {r.plain_ms:.1f} | {r.ratio:.1f} (goal {r.goal:g}) | {r.over_plain:.2f} "
            f"| {_shown(r.dynamic_int8)} | {_shown(r.static_int8)} |"
        )
    return "\n".join(lines)


def _shown(int8: float | str) -> str:
    return int8 if isinstance(int8, str) else f"{int8:.1f} ms"


if __name__ == "__main__":
    main()
