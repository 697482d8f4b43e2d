"""The cases of `fuse.py`, each run in a process of its own; prints one JSON object."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np

from pockethdr.brackets.bracket import Bracket, linear_to_srgb, srgb_to_linear
from pockethdr.brackets.exr import read_exr
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.metrics import psnr_mu
from pockethdr.brackets.read import read_bracket
from pockethdr.errors import first_line
from pockethdr.export.manifest import Manifest, read_manifest
from pockethdr.runtime.demosaic import camera_to_srgb
from pockethdr.runtime.fuse import Fuser
from pockethdr.runtime.image import HDRImage, image_of
from pockethdr.runtime.jpeg import StripJpeg
from pockethdr.runtime.latency import peak_memory_mb
from pockethdr.runtime.runner import open_runner
from pockethdr.runtime.tiling import planned
from pockethdr.runtime.write import save_hdr

THREADS = 2
# Seconds after which no further round of the runtimes begins.
_PATIENCE = 45.0
# Compilers quote the whole operator that they refuse: so much of it says what it is.
_REASON = 200


def whole(artifact: str, bracket: str, work: str, rounds: str, how: str = "") -> dict[str, Any]:
    """A bracket to an Ultra HDR file, in turn with runs of the bare interpreter.

    Args:
        how: `align`, for a bracket that is to be aligned first.
    """
    places = Path(artifact), Path(bracket), Path(work), how == "align"
    measured = [_once(*places)]
    peak = peak_memory_mb()  # before a second interpreter is made to compare with
    bare = _bare(Path(artifact))
    alone = [_seconds(bare) for _ in range(3)]
    for turn in range(1, int(rounds)):
        _say(f"round {turn} of {rounds}: {sum(measured[-1][0].values()):.1f} s")
        measured.append(_once(*places))
        alone += [_seconds(bare) for _ in range(3)]
    stages, count = sorted(measured, key=lambda m: sum(m[0].values()))[len(measured) // 2]
    seconds, interpreter = sum(stages.values()), count * statistics.median(alone)
    return {
        "seconds": seconds,
        "interpreter_seconds": interpreter,
        "ratio_to_interpreter": seconds / interpreter,
        "outside_share": 1 - stages["run"] / seconds,
        "codecs_seconds": _codecs(Path(bracket), Path(work) / "out.jpg"),
        "peak_memory_mb": peak,
        "tiles": count,
        "stages": stages,
        "bracket": Path(bracket).name,
        "artifact": Path(artifact).name,
    }


def _once(artifact: Path, bracket: Path, work: Path, align: bool) -> tuple[dict[str, float], int]:
    with Fuser(artifact, threads=THREADS, align=align) as fuser:
        image = fuser.fuse(bracket)
    begin = time.perf_counter()
    save_hdr(image, work / "out.jpg", overwrite=True, threads=THREADS)
    return {**image.seconds, "develop and write": time.perf_counter() - begin}, image.tiles


def _codecs(bracket: Path, picture: Path) -> float | None:
    """What no fusing can go without: the least time to decode the PNGs and to code the picture.

    By libpng and libjpeg-turbo, called as plainly as can be; None for other files.
    """
    coded = [path.read_bytes() for path in sorted(bracket.glob("*.png"))]
    if not coded:
        return None
    pixels = imagecodecs.jpeg8_decode(picture.read_bytes())

    def work() -> None:
        list(pool.map(imagecodecs.png_decode, coded))
        imagecodecs.jpeg8_encode(pixels, level=StripJpeg.quality, subsampling="420")

    with ThreadPoolExecutor(THREADS) as pool:
        return min(_seconds(work) for _ in range(3))


def _bare(artifact: Path) -> Callable[[], object]:
    """One tile through the interpreter alone, as a TFLite user would call it; warm."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifact), num_threads=THREADS)
    interpreter.allocate_tensors()
    random = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], random.random(detail["shape"], np.float32))
    interpreter.invoke()
    return interpreter.invoke


def halo_share(manifest: Manifest, size: tuple[int, int]) -> float:
    """Of frames of `size` pixels of the sensor."""
    grid = size[0] // 2, size[1] // 2
    plan, _ = planned(manifest, grid)
    return 1 - grid[0] * grid[1] / (len(plan) * manifest.size[0] * manifest.size[1])


def runtimes(export: str, rounds: str) -> dict[str, Any]:
    """One tile in every runtime, in turn: median milliseconds, or why there are none."""
    import torch

    from pockethdr.models.load import load_model

    torch.set_num_threads(THREADS)
    folder = Path(export)
    manifest = read_manifest(folder)
    shape = (1, manifest.channels, *manifest.size)
    frames = [np.random.default_rng(i).random(shape, np.float32) for i in range(3)]
    tensors = tuple(map(torch.from_numpy, frames))
    module = load_model(manifest.spec, domain=manifest.domain).module

    def artifact(target: str, precision: str) -> Callable[[], object]:
        name = next(
            a.file for a in manifest.artifacts if (a.target, a.precision) == (target, precision)
        )
        runner = open_runner(folder / str(name), target, threads=THREADS)
        return lambda: runner.run(frames)

    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "LiteRT INT8": lambda: artifact("tflite", "int8"),
        "LiteRT FP32": lambda: artifact("tflite", "fp32"),
        "ONNX Runtime INT8": lambda: artifact("onnx", "int8"),
        "ONNX Runtime FP32": lambda: artifact("onnx", "fp32"),
        "PyTorch eager FP32": lambda: lambda: module(*tensors),
        "torch.compile FP32": lambda: _compiled(module, tensors),
        "ONNX Runtime FP32, graph as traced": lambda: _untouched(module, tensors, "onnx"),
        "LiteRT FP32, graph as traced": lambda: _untouched(module, tensors, "tflite"),
    }
    with torch.no_grad():
        medians, done = _in_turn(makers, int(rounds))
    for name, row in medians.items():
        base = medians["LiteRT INT8" if "INT8" in name else "LiteRT FP32"]
        if "ms" in row and "ms" in base:
            row["times"] = row["ms"] / base["ms"]
    return {"rounds": done, "engines": medians}


def _compiled(module: Any, tensors: Any) -> Callable[[], object]:
    import torch

    compiled = torch.compile(module)
    return lambda: compiled(*tensors)


def _untouched(module: Any, tensors: Any, target: str) -> Callable[[], object]:
    """The network as it is traced: what a converter makes of it without our rewrites."""
    from pockethdr.export.targets import target_of
    from pockethdr.export.trace import traced

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"untouched{target_of(target).suffix}"
        target_of(target).build(traced(module, tensors), tensors, "fp32", path)
        runner = open_runner(path, target, threads=THREADS)
        frames = [tensor.numpy() for tensor in tensors]
        runner.run(frames)  # while the file is there
    return lambda: runner.run(frames)


def _in_turn(
    makers: dict[str, Callable[[], Callable[[], object]]], rounds: int
) -> tuple[dict[str, dict[str, Any]], int]:
    """Median milliseconds of each, run A B C A B C …; and the rounds that `_PATIENCE` allowed."""
    found: dict[str, dict[str, Any]] = {}
    ready: dict[str, Callable[[], object]] = {}
    for name, make in makers.items():
        try:
            run = make()
            _say(f"{name}: first run {_seconds(run):.1f} s")
            ready[name] = run
        except Exception as error:  # whatever a runtime says is the result
            found[name] = {"reason": textwrap.shorten(first_line(error), _REASON, placeholder=" …")}
    times: dict[str, list[float]] = {name: [] for name in ready}
    begin, done = time.perf_counter(), 0
    while done < rounds and (done == 0 or time.perf_counter() - begin < _PATIENCE):
        for name, run in ready.items():
            times[name].append(1e3 * _seconds(run))
        done += 1
        _say(f"round {done} of {rounds}")
    measured = {name: {"ms": statistics.median(ms)} for name, ms in times.items()}
    return {name: found.get(name) or measured[name] for name in makers}, done


def blocks(rounds: str) -> dict[str, Any]:
    """Four dynamic convolutions after their rewrite against four plain ones, both INT8."""
    import static_vs_dynamic as stack
    import torch

    from pockethdr.export.rewrite import apply_rewrites
    from pockethdr.export.static import standard_rewrites
    from pockethdr.export.trace import traced

    found = {}
    for name, phi in (("image", stack.GLOBAL), ("pixel", stack.PIXEL)):
        torch.manual_seed(0)
        frames = tuple(torch.rand(1, 8, 128, 128) for _ in range(3))
        untouched = traced(stack.Stack(phi).eval(), frames)
        rewritten = apply_rewrites(untouched, standard_rewrites(), [frames]).program
        plain = traced(stack.Stack(stack.STATIC).eval(), frames)
        engines = [stack.int8_engine(program, frames) for program in (rewritten, plain)]
        _say(f"Φ per {name}: both graphs are ready")
        times = stack.in_turn(engines, int(rounds))
        macs = _macs(rewritten, frames) / _macs(plain, frames)
        found[name] = {"rewritten_ms": times[0], "plain_ms": times[1], "macs_ratio": macs}
    return found


def _macs(program: Any, frames: Any) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        program(*frames)
    return int(counter.get_total_flops()) // 2


def merges(artifact: str, *brackets: str) -> dict[str, Any]:
    """PSNR-µ and seconds of the network and of merges without one."""
    found = {}
    with Fuser(artifact, threads=THREADS) as fuser:
        for folder in map(Path, brackets):
            bracket = read_bracket(folder, domain="raw")
            truth = _truth(bracket, folder)
            found[folder.name] = {
                name: _scored(make, truth, fitted=fitted)
                for name, make, fitted in (
                    ("network", lambda b=bracket: fuser.fuse(b).rgb(), False),
                    ("weighted merge", lambda b=bracket: _developed(b), False),
                    ("MergeDebevec", lambda b=bracket: _debevec(b), True),
                    ("MergeMertens", lambda b=bracket: _mertens(b), True),
                )
            }
    return found


def _scored(make: Callable[[], np.ndarray], truth: np.ndarray, *, fitted: bool) -> dict[str, float]:
    begin = time.perf_counter()
    image = make()
    seconds = time.perf_counter() - begin
    if fitted:
        image = scaled_to(truth, image)
    planes = [np.clip(x, 0, 1).transpose(2, 0, 1) for x in (image, truth)]
    return {"psnr_mu": float(psnr_mu(*planes)), "seconds": seconds}


def scaled_to(wanted: np.ndarray, image: np.ndarray) -> np.ndarray:
    """`image` times the one factor with which it is nearest to `wanted`."""
    return image * (float((image * wanted).sum()) / float((image * image).sum()))


def _truth(bracket: Bracket, folder: Path) -> np.ndarray:
    rgb = np.clip(read_exr(folder / "gt_camera_rgb.exr"), 0, 1).transpose(2, 0, 1)
    assert bracket.camera is not None
    return camera_to_srgb(np.ascontiguousarray(rgb), bracket.camera).transpose(1, 2, 0)


def _image(bracket: Bracket, planes: np.ndarray) -> HDRImage:
    return image_of(planes, "raw", bracket.camera, flips=bracket.flips)


def _developed(bracket: Bracket) -> np.ndarray:
    return _image(bracket, weighted_merge(bracket)).rgb()


def _photographs(bracket: Bracket) -> list[np.ndarray]:
    """The frames as a camera's JPEGs: 8-bit sRGB, upright as the ground truth."""
    found = []
    for frame in bracket.frames:
        mosaic = np.asarray(frame.pixels, np.float32)
        planes = np.stack([mosaic[r::2, c::2] for r in (0, 1) for c in (0, 1)])
        rgb = _image(bracket, planes).rgb()
        found.append(np.round(linear_to_srgb(np.clip(rgb, 0, 1)) * 255).astype(np.uint8))
    return found


def _debevec(bracket: Bracket) -> np.ndarray:
    frames, times = _photographs(bracket), np.array(bracket.ratios, np.float32)
    codes = srgb_to_linear(np.arange(256, dtype=np.float32) / 255)
    response = np.maximum(np.repeat(codes[:, None, None], 3, axis=2), 1e-4)
    return np.asarray(cv2.createMergeDebevec().process(frames, times, response))


def _mertens(bracket: Bracket) -> np.ndarray:
    fused = cv2.createMergeMertens().process(_photographs(bracket))
    return srgb_to_linear(np.clip(fused, 0, 1))


def _say(what: str) -> None:
    print(f"          {what}", file=sys.stderr, flush=True)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    _CASES = {"whole": whole, "runtimes": runtimes, "blocks": blocks, "merges": merges}
    print(json.dumps(_CASES[sys.argv[1]](*sys.argv[2:])))
