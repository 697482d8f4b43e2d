"""INT8 side by side: our artifacts beside those of the tools' own quantisers, called as users do.

    python benchmarks/int8_tools.py out/m32 out/ahdrnet --cache hdr_images \\
        --brackets ../shared/brackets

Takes folders of `pockethdr export --targets onnx,tflite,coreml --precisions fp32,int8` for raw
brackets. Each tool gets the FP32 artifact of its format (already without dynamic kernels, which
most of them refuse) or the rewritten program, and centre tiles of `--brackets` to calibrate on.
What comes out runs in the same runtime as ours, on the test set (`brackets.testset`). A tool that
fails is a row with its message, one that is not installed says what to install. Writes
DOCS/int8.json and DOCS/int8.md.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from int8 import Array, held_out, losses, rows_of
from rich.console import Console
from rich.progress import track

from pockethdr.brackets.bracket import Bracket
from pockethdr.export import coreml, onnx, tflite
from pockethdr.export.manifest import Artifact, Manifest, read_manifest
from pockethdr.export.quiet import quiet
from pockethdr.export.targets import input_names
from pockethdr.report.host import host
from pockethdr.report.layers import float_program, tiles_of
from pockethdr.report.reference import Reference
from pockethdr.runtime.artifact import Deployed
from pockethdr.runtime.latency import measure_artifact
from pockethdr.runtime.runner import open_runner

FIELDS = (
    "model", "target", "precision", "ours", "tool", "loss_mu_db", "loss_l_db",
    "psnr_mu_vs_reference", "latency_ms", "int8_mac_share",
)  # fmt: skip


@dataclass(frozen=True)
class Given:
    """What a tool works on: an FP32 artifact, the export it is of, and calibration inputs."""

    fp32: Path
    out: Path
    manifest: Manifest
    tiles: list[list[Array]]

    @property
    def named(self) -> list[dict[str, Array]]:
        """The calibration inputs by name, N×C×H×W."""
        return [dict(zip(input_names(tile), tile, strict=True)) for tile in self.tiles]


@dataclass(frozen=True)
class Tool:
    """A quantiser of others: `make(given, path)` writes `path`."""

    name: str
    target: str
    precision: str
    needs: str
    install: str
    make: Callable[[Given, Path], None]


# ---- LiteRT


def _channels_last(given: Given) -> list[dict[str, Array]]:
    return [
        {name: np.ascontiguousarray(x.transpose(0, 2, 3, 1)) for name, x in sample.items()}
        for sample in given.named
    ]


def litert_static(given: Given, path: Path) -> None:
    from litert_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(given.fp32), recipe.static_wi8_ai8())
    calibrated = made.calibrate({"serving_default": _channels_last(given)}, num_threads=1)
    made.quantize(calibrated).export_model(str(path))


def litert_dynamic(given: Given, path: Path) -> None:
    from litert_quantizer import quantizer, recipe

    made = quantizer.Quantizer(str(given.fp32), recipe.dynamic_wi8_afp32())
    made.quantize().export_model(str(path))


def pt2e(given: Given, path: Path) -> None:
    import litert_torch
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    network = tflite.ChannelsLast(float_program(given.out, given.manifest, "fp32").tile)
    samples = [{k: torch.from_numpy(v) for k, v in s.items()} for s in _channels_last(given)]
    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    exported = torch.export.export(network, (), kwargs=samples[0]).module()
    prepared = prepare_pt2e(exported, quantizer)
    with torch.no_grad():
        for sample in samples:
            prepared(**sample)
    made = convert_pt2e(prepared, fold_quantize=False)
    config = QuantConfig(pt2e_quantizer=quantizer)
    model = litert_torch.convert(made, sample_kwargs=samples[0], quant_config=config)
    path.write_bytes(model.model_content())


# ---- ONNX


def ort_static(given: Given, path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(given.named)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.samples, None)

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(str(given.fp32), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(path), Reader())


def modelopt(given: Given, path: Path) -> None:
    from modelopt.onnx.quantization import quantize

    copy = path.with_name("copy.onnx")  # it rewrites what it is given
    shutil.copy(given.fp32, copy)
    stacked = {k: np.concatenate([s[k] for s in given.named]) for k in given.named[0]}
    quantize(
        str(copy),
        quantize_mode="int8",
        calibration_data=stacked,
        calibration_eps=["cpu"],
        output_path=str(path),
    )


# ---- Core ML


def coreml_weights(given: Given, path: Path) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    model = ct.models.MLModel(str(given.fp32), skip_model_load=True)
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig())
    cto.linear_quantize_weights(model, config).save(str(path))


def coreml_w8a8(given: Given, path: Path) -> None:
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    model = ct.models.MLModel(str(given.fp32))
    config = cto.OptimizationConfig(cto.OpLinearQuantizerConfig())
    quantised = cto.linear_quantize_activations(model, config, given.named)
    cto.linear_quantize_weights(quantised, config).save(str(path))


_LITERT, _ONNX = "pip install 'pockethdr[tflite-build]'", "pip install 'pockethdr[onnx]'"
_COREML = "pip install 'pockethdr[coreml]'"
_MODELOPT = "pip install nvidia-modelopt onnx-graphsurgeon onnxslim onnxconverter-common lief"
TOOLS = (
    Tool("litert_quantizer static", "tflite", "int8", "litert_quantizer", _LITERT, litert_static),
    Tool("litert_quantizer dynamic", "tflite", "dynint8", "litert_quantizer", _LITERT,
         litert_dynamic),
    Tool("PT2E, litert-torch", "tflite", "int8", "torchao", _LITERT, pt2e),
    Tool("ONNX Runtime quantize_static", "onnx", "int8", "onnxruntime", _ONNX, ort_static),
    Tool("ModelOpt", "onnx", "int8", "modelopt", _MODELOPT, modelopt),
    Tool("coremltools, weights only", "coreml", "int8 weights", "coremltools", _COREML,
         coreml_weights),
    Tool("coremltools W8A8", "coreml", "int8", "coremltools", _COREML, coreml_w8a8),
)  # fmt: skip


def tool_rows(
    out: Path, calibration: Path, brackets: list[Bracket], *, tiles: int, latency: bool
) -> Iterator[dict[str, Any]]:
    """One row for each tool, whether it works, fails or is missing."""
    manifest = read_manifest(out)
    reference = Reference(out, manifest, threads=1)
    wanted = [np.clip(reference.run(bracket)[0], 0, 1) for bracket in brackets]
    program = float_program(out, manifest, "fp32")
    samples = list(tiles_of([calibration], manifest, program, tiles))
    records = {a.target: a for a in manifest.artifacts if a.precision == "fp32" and a.file}
    for tool in TOOLS:
        row = dict.fromkeys(FIELDS) | {
            "model": manifest.model, "target": tool.target, "precision": tool.precision,
            "ours": False, "tool": tool.name, "brackets": len(brackets),
        }  # fmt: skip
        if importlib.util.find_spec(tool.needs) is None:
            yield row | {"skipped": f"{tool.needs} is not installed; {tool.install}"}
        elif tool.target not in records:
            yield row | {"skipped": f"no {tool.target} fp32 in {out.name}; export it too"}
        else:
            record = records[tool.target]
            given = Given(out / str(record.file), out, manifest, samples)
            yield row | _tried(tool, given, record, brackets, wanted, latency=latency)


def _tried(
    tool: Tool,
    given: Given,
    record: Artifact,
    brackets: list[Bracket],
    wanted: list[Array],
    *,
    latency: bool,
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{given.fp32.suffix}"
        try:
            with quiet():
                tool.make(given, path)
            deployed = Deployed(given.fp32, given.manifest, record)
            with closing(open_runner(path, tool.target, layout=record.layout)) as runner:
                found = losses(runner, deployed, brackets, wanted)
            return found | {
                "int8_mac_share": None
                if tool.precision == "dynint8"
                else _share(path, tool.target),
                "latency_ms": measure_artifact(path, threads=1).p50 if latency else None,
            }
        except Exception as error:  # whatever a tool says is the row
            words = " ".join(str(error).split()) or "no message"
            return {"failed": f"{type(error).__name__}: {words[:200]}"}


def _share(path: Path, target: str) -> float | None:
    """The share of multiplications that the file's kernels do on integers, as for our artifacts."""
    if target == "tflite":
        share = tflite.checks(path.read_bytes(), "int8")["int8_mac_share"]
    elif target == "onnx":
        import onnx as format_

        share = onnx.checks(format_.load(str(path)), "int8")["int8_mac_share"]
    else:
        share = coreml.checks(path, "int8")["int8_mac_share"]
    return float(share)


# ---- what is written


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, ours first within a target."""
    lines = [
        "| network | target | precision | by | µ, dB | ℓ, dB | agreement, µ | ms | INT8 |",
        "|---" * 9 + "|",
    ]
    ordered = sorted(rows, key=lambda row: (row["model"], row["target"], not row["ours"]))
    return "\n".join([*lines, *map(_line, ordered)]) + "\n"


def _line(row: dict[str, Any]) -> str:
    by = f"**{row['tool']}**" if row["ours"] else row["tool"]
    start = f"| {row['model']} | {row['target']} | {row['precision']} | {by} |"
    for word in ("failed", "skipped"):
        if word in row:
            return f"{start} {word}: {row[word].replace('|', '¦')} | | | | |"
    share = "–" if row["int8_mac_share"] is None else f"{row['int8_mac_share']:.0%}"
    time = "–" if row["latency_ms"] is None else f"{row['latency_ms']:.1f}"
    figures = f"{row['loss_mu_db']:+.2f} | {row['loss_l_db']:+.2f}".replace("-", "−")
    return f"{start} {figures} | {row['psnr_mu_vs_reference']:.1f} | {time} | {share} |"


def page(rows: list[dict[str, Any]], command: str, count: int) -> str:
    return (
        "# INT8 beside the tools' own quantisers\n\n"
        "The artifact minus the float network, both against ground truth, mean of "
        f"{count} simulated brackets of images that nothing here was trained or tuned on; "
        "negative is a loss. Every tool starts from the same FP32 weights, with its defaults. Core "
        "ML is judged by evaluating the saved program. dynint8: int8 weights, activations' ranges "
        "measured at run time, and no file tells the share of that. – was not measured.\n\n"
        f"    {command}\n\n{table(rows)}\n"
        f"Host: {host()['cpu']}. Figures for machines: [int8.json](int8.json).\n"
    )


@click.command()
@click.argument("outs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--cache", required=True, type=click.Path(path_type=Path))
@click.option("--brackets", required=True, type=click.Path(path_type=Path), help="To calibrate on.")
@click.option("--count", default=24, show_default=True, help="At most this many test brackets.")
@click.option("--tiles", default=4, show_default=True, help="Calibration tiles of a bracket.")
@click.option("--latency", is_flag=True)
@click.option("--docs", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
def main(
    outs: tuple[Path, ...],
    cache: Path,
    brackets: Path,
    count: int,
    tiles: int,
    latency: bool,
    docs: Path,
) -> None:
    """Measure, and write DOCS/int8.json and DOCS/int8.md."""
    judged = held_out(cache, count)
    rows: list[dict[str, Any]] = []
    for out in track(outs, console=Console(stderr=True), transient=True):
        ours = (r for r in rows_of(out, judged, latency=latency) if r["precision"] != "fp32")
        rows += ours
        rows += tool_rows(out, brackets, judged, tiles=tiles, latency=latency)
    names = " ".join(f"out/{out.name}" for out in outs)
    command = (
        f"python benchmarks/int8_tools.py {names} --cache hdr_images "
        f"--brackets ../shared/brackets --count {count}" + " --latency" * latency
    )
    data = {"command": command, "host": host(), "brackets": len(judged), "rows": rows}
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (docs / "int8.json").write_text(text, encoding="utf-8")
    (docs / "int8.md").write_text(page(rows, command, len(judged)), encoding="utf-8")
    click.echo(table(rows))


if __name__ == "__main__":
    main()
