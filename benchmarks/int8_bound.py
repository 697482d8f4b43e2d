"""How much faster INT8 can be on this host: one convolution at a time, float against integer.

    OMP_NUM_THREADS=1 python benchmarks/int8_bound.py

A whole network cannot gain more than its convolutions do. Each row is a chain of equal 3×3 or 1×1
convolutions with ReLU in LiteRT on XNNPACK, once in float32 and once wholly in int8, run in turn;
the least process time of each counts, so that other work on the host does not.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn

from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import LITERT_INT8
from pockethdr.export.tflite import tflite_from_program
from pockethdr.export.trace import traced

#: channels, kernel, convolutions, side
CHAINS = ((32, 3, 8, 128), (32, 1, 8, 128), (64, 3, 4, 64), (128, 3, 4, 32), (16, 3, 8, 128))


class Chain(nn.Module):
    """`count` convolutions in a row; the two other frames are only there for the signature."""

    def __init__(self, channels: int, kernel: int, count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2) for _ in range(count)
        )

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = short
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x + mid[:, :, :1, :1] + long[:, :, :1, :1]


def milliseconds(models: dict[str, bytes], runs: int) -> dict[str, float]:
    """Least process time of one run of each model, all run in turn."""
    interpreters = {name: _interpreter(data) for name, data in models.items()}
    best = dict.fromkeys(models, float("inf"))
    for _ in range(runs):
        for name, interpreter in interpreters.items():
            begin = time.process_time()
            interpreter.invoke()
            best[name] = min(best[name], (time.process_time() - begin) * 1e3)
    return best


def _interpreter(data: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    return interpreter


def _models(channels: int, kernel: int, count: int, side: int) -> dict[str, bytes]:
    frames = [torch.rand(1, channels, side, side) for _ in range(3)]
    program = traced(Chain(channels, kernel, count), frames)
    ranges = {node.name: (-4.0, 4.0) for node in program.graph.nodes}
    made = quantized(program, ranges, RECIPES["full"], LITERT_INT8).program
    return {
        "float": tflite_from_program(program, frames, integer=False),
        "int8": tflite_from_program(made, frames, integer=True),
    }


@click.command()
@click.option("--runs", default=15, show_default=True)
def main(runs: int) -> None:
    """Print the table, and what the processor offers for it."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "asimddp", "i8mm")
    click.echo(f"instructions: {', '.join(name for name in known if name in flags) or 'unknown'}\n")
    click.echo("| channels | kernel | side | float, ms | int8, ms | times faster |")
    click.echo("|---" * 6 + "|")
    for channels, kernel, count, side in CHAINS:
        best = milliseconds(_models(channels, kernel, count, side), runs)
        ratio = best["float"] / best["int8"]
        click.echo(
            f"| {channels} | {kernel}×{kernel} | {side} | {best['float']:.1f} | "
            f"{best['int8']:.1f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
