"""`pockethdr bench`: an artifact on a phone, over adb, or figures that another device measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pockethdr.errors import PocketError

if TYPE_CHECKING:
    from pockethdr.runtime.phone.rows import DeviceRow
    from pockethdr.runtime.runner import Frames


@click.command()
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--adb", "serial", is_flag=False, flag_value="", help="The phone; or its serial.")
@click.option("--brackets", type=click.Path(path_type=Path), help="Where the tile is cut from.")
@click.option(
    "--benchmark-model", type=click.Path(path_type=Path), help="LiteRT's tool for the phone."
)
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Timed runs of each artifact.",
)
@click.option("--import", "result", type=click.Path(path_type=Path), help="A result.json.")
@click.pass_context
def bench(
    context: click.Context,
    artifact: Path,
    serial: str | None,
    brackets: Path | None,
    benchmark_model: Path | None,
    runs: int,
    result: Path | None,
) -> None:
    """Run ARTIFACT (.tflite, or with --import its export folder) on a phone's CPU, GPU and NPU.

    One tile of a real bracket is run; its output must agree with this host's. What was measured is
    kept in devices.json beside the artifact, and `pockethdr report` shows it. Exits with 1 when an
    output does not agree.

    \b
    Examples:
      pockethdr bench out/m32/dsan-m32_rgb_int8.tflite --adb --brackets photos \\
          --benchmark-model ./benchmark_model
      pockethdr bench out/m32 --import result.json
    """
    from pockethdr.runtime.phone.rows import add_rows, imported

    if result is not None:
        out = artifact if artifact.is_dir() else artifact.parent
        rows = [imported(result, out)]
    elif serial is None or brackets is None or benchmark_model is None:
        given = {"--adb": serial, "--brackets": brackets, "--benchmark-model": benchmark_model}
        lacking = [option for option, value in given.items() if value is None]
        raise PocketError(
            f"{' and '.join(lacking)} not given",
            expected="--adb with --brackets and --benchmark-model, or --import FILE",
            fix="benchmark_model: https://ai.google.dev/edge/litert/models/measurement",
        )
    else:
        out = artifact.parent
        rows = _measured(artifact, serial, brackets, benchmark_model, runs)
    add_rows(out, rows)
    _print(rows)
    context.exit(1 if any(row.passed is False for row in rows) else 0)


def _measured(
    artifact: Path, serial: str, brackets: Path, tool: Path, runs: int
) -> list[DeviceRow]:
    from pockethdr.runtime.phone.adb import Adb
    from pockethdr.runtime.phone.bench import bench as measured

    if not tool.is_file():
        raise PocketError(f"{tool}: no such file", expected="LiteRT's benchmark_model for Android")
    frames = _tile(artifact, brackets)
    return measured(artifact, frames, Adb(serial), tool, runs=runs)


def _tile(artifact: Path, brackets: Path) -> Frames:
    """The tile in the middle of the first bracket, told of the whole where the network wants it."""
    from pockethdr.brackets.read import find_brackets, read_bracket
    from pockethdr.runtime.artifact import deployed
    from pockethdr.runtime.context import context_of, inputs_at
    from pockethdr.runtime.feed import Feed
    from pockethdr.runtime.tiling import planned

    found = deployed(artifact)
    domain = found.manifest.domain
    bracket = read_bracket(find_brackets(brackets, domain=domain)[0], domain=domain)
    plan, _ = planned(found.manifest, bracket.size())
    context = context_of(found, Feed(bracket), threads=2)
    return inputs_at(plan[len(plan) // 2], bracket.inputs(), context)


def _print(rows: Sequence[DeviceRow]) -> None:
    for row in rows:
        times = ", ".join(f"{k} {v:.2f} ms" for k, v in (row.latency_ms or {}).items())
        agreement = "" if row.psnr_vs_host is None else f", {row.psnr_vs_host:.1f} dB of the host"
        verdict = {True: "pass", False: "FAIL", None: "not judged"}[row.passed]
        figures = (times or "no latency") + agreement + (f"; {row.reason}" if row.reason else "")
        click.echo(f"{verdict}: {row.artifact}, {row.device}, {row.accelerator}: {figures}")
