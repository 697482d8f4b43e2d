"""Which layout each runtime prefers: every pair computes the same values.

    OMP_NUM_THREADS=1 python benchmarks/rewrites.py

Prints a Markdown table: least CPU time of one run, one thread, fp32, in milliseconds. The numbers
rank forms on this host's CPU; they say nothing about a phone's GPU or NPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, fx, nn

from pockethdr.export.quiet import quiet
from pockethdr.export.rewrite import Rewrite, apply_rewrites
from pockethdr.export.rewrites.conv_shuffle import MergeConvShuffle
from pockethdr.export.rewrites.leaky_relu import ExpandLeakyRelu
from pockethdr.export.rewrites.polyphase import PolyphaseDilated
from pockethdr.export.rewrites.reflect_pad import ExpandReflectPad
from pockethdr.export.rewrites.strided import UnshuffleStridedConv
from pockethdr.export.rewrites.transposed import ShuffleTransposedConv
from pockethdr.export.rewrites.unshuffle_conv import MergeUnshuffleConv
from pockethdr.export.trace import traced

Run = Callable[[], object]

HALF, FULL, CHANNELS, RUNS = 128, 256, 32, 15


class Drdb(nn.Module):
    """AHDRNet's dilated residual dense block: six 3×3 with dilation 2, a 1×1, a skip."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + i * growth, growth, 3, padding=2, dilation=2) for i in range(6)
        )
        self.last = nn.Conv2d(channels + 6 * growth, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        dense = x
        for layer in self.layers:
            dense = torch.cat([dense, torch.relu(layer(dense))], 1)
        return self.last(dense) + x


def cases() -> list[tuple[str, nn.Module, tuple[int, ...], str, list[Rewrite]]]:
    """What is written in the network, its input, and the rewrite to the other form."""
    c, h, f = CHANNELS, HALF, FULL
    down, up = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
    three = nn.Conv2d(c, c, 3, padding=1)
    return [
        (
            f"unshuffle(2), 3×3 {c}→{c}",
            nn.Sequential(down, three),
            (1, c // 4, f, f),
            "6×6/2",
            [MergeUnshuffleConv()],
        ),
        (
            f"3×3 {c}→16, shuffle(2)",
            nn.Sequential(nn.Conv2d(c, 16, 3, padding=1, bias=False), up),
            (1, c, h, h),
            "transposed 6×6/2",
            [MergeConvShuffle()],
        ),
        (
            f"DRDB {c}, growth 16, dilation 2",
            Drdb(c, 16),
            (1, c, h, h),
            "four phases",
            [PolyphaseDilated()],
        ),
        (
            f"transposed 5×5/2 {c}→{c}",
            nn.ConvTranspose2d(c, c, 5, 2, 2, output_padding=1),
            (1, c, h, h),
            "3×3, shuffle(2)",
            [ShuffleTransposedConv()],
        ),
        (
            f"transposed 2×2/2 {c}→{c}",
            nn.ConvTranspose2d(c, c, 2, 2),
            (1, c, h, h),
            "1×1, shuffle(2)",
            [ShuffleTransposedConv()],
        ),
        (
            f"5×5/2 {c}→{c}",
            nn.Conv2d(c, c, 5, 2, 2),
            (1, c, f, f),
            "unshuffle(2), 3×3",
            [UnshuffleStridedConv()],
        ),
        (
            f"3×3 {c}→{c}, leaky ReLU",
            nn.Sequential(three, nn.LeakyReLU(0.1)),
            (1, c, h, h),
            "max(x, a x)",
            [ExpandLeakyRelu()],
        ),
        (
            f"reflect pad, 3×3 {c}→{c}",
            nn.Conv2d(c, c, 3, padding=1, padding_mode="reflect"),
            (1, c, h, h),
            "slices, concat",
            [ExpandReflectPad()],
        ),
    ]


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print("| as written | ONNX Runtime | LiteRT | rewritten | ONNX Runtime | LiteRT |")
    print("|---|---|---|---|---|---|", flush=True)
    progress = Console(stderr=True)
    for written, module, shape, other, rewrites in track(cases(), "measuring", console=progress):
        frame = torch.randn(shape)
        program = traced(module, (frame,))
        rewritten = apply_rewrites(program, rewrites, [(frame,)])
        assert rewritten.proofs, f"{rewrites[0].name} refused: {rewritten.refusals}"
        with tempfile.TemporaryDirectory() as folder:
            runs = [
                build(each, frame, Path(folder) / f"model{i}")
                for i, each in enumerate((program, rewritten.program))
                for build in (onnxruntime_run, litert_run)
            ]
        times = [f"{best:.1f}" if run else "does not convert" for run, best in least_cpu_ms(runs)]
        print(f"| {' | '.join([written, *times[:2], other, *times[2:]])} |", flush=True)


def least_cpu_ms(runs: list[Run | None]) -> list[tuple[Run | None, float]]:
    """The least CPU time of each, taken in turns so that a busy host treats them alike."""
    best = [float("inf")] * len(runs)
    for _ in range(RUNS):
        for i, run in enumerate(runs):
            start = time.process_time()
            if run is not None:
                run()
            best[i] = min(best[i], 1e3 * (time.process_time() - start))
    return list(zip(runs, best, strict=True))


def onnxruntime_run(program: fx.GraphModule, frame: Tensor, path: Path) -> Run:
    import onnxruntime

    path = path.with_suffix(".onnx")
    with quiet(), torch.no_grad():
        torch.onnx.export(program, (frame,), path, dynamo=True, external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: frame.numpy()}
    return lambda: session.run(None, feed)


class ChannelsLast(nn.Module):
    """A program with N×H×W×C input and output, as a phone gives its frames."""

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def forward(self, frame: Tensor) -> Tensor:
        return self.program(frame.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def litert_run(program: fx.GraphModule, frame: Tensor, path: Path) -> Run | None:
    """None when LiteRT's converter refuses the program."""
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    path, turned = path.with_suffix(".tflite"), frame.permute(0, 2, 3, 1).contiguous()
    try:
        with quiet(), torch.no_grad():
            litert_torch.convert(ChannelsLast(program), (turned,)).export(str(path))
    except ValueError:
        return None
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], turned.numpy())
    return interpreter.invoke


if __name__ == "__main__":
    main()
