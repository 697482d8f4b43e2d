"""INT8 side by side: our artifacts beside those of the tools' own quantisers, called as users do.

    python benchmarks/int8_tools.py out/m32 out/ahdrnet --cache hdr_images \\
        --brackets ../shared/brackets

Takes folders of `pockethdr export --targets onnx,tflite,coreml --precisions fp32,int8,dynint8` for
raw brackets. Each tool gets the FP32 artifact of its format (already without dynamic kernels, which
most of them refuse) or the rewritten program, and centre tiles of `--brackets` to calibrate on.
What comes out runs in the same runtime as ours, on the test set (`brackets.testset`). A tool that
fails is a row with its message, one that is not installed says what to install.

DOCS/int8.json is written after each row. A run that was cut short goes on where it stopped, and one
on other folders adds to the table, as long as the number of brackets is the same; what failed or
was skipped is tried again. DOCS/int8.md is made of it at the end.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
from int8 import Array, Export, held_out, latency_of, losses, row_of
from int8_quantisers import Given, Tool, integer_share, tools_with
from int8_speed import speed_table, speeds
from rich.console import Console
from rich.progress import Progress

from pockethdr.brackets.bracket import Bracket
from pockethdr.export.manifest import Artifact
from pockethdr.export.quiet import quiet
from pockethdr.files import write_bytes
from pockethdr.report.host import host
from pockethdr.report.layers import float_program, tiles_of

FIELDS = (
    "model", "target", "precision", "ours", "tool", "loss_mu_db", "loss_l_db",
    "psnr_mu_vs_reference", "latency_ms", "int8_mac_share",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A row to be: its key, what it is made of, and how."""

    key: tuple[str, str, str, str]
    sha256: str | None
    make: Callable[[], dict[str, Any]]


def cells_of(
    out: Path, calibration: Path, brackets: list[Bracket], tools: tuple[Tool, ...], **how: Any
) -> list[Cell]:
    """Our artifacts of an export, then every tool on its FP32 ones.

    Args:
        how: `tiles`, the calibration tiles of a bracket; `latency`, whether artifacts are timed.
    """
    export = Export(out, brackets)
    manifest, records = export.manifest, export.manifest.artifacts
    floats = {a.target: a for a in records if a.precision == "fp32" and a.file}

    @cache
    def samples() -> list[list[Array]]:
        program = float_program(out, manifest, "fp32")
        return list(tiles_of([calibration], manifest, program, how["tiles"]))

    def ours(artifact: Artifact) -> Cell:
        name = "pockethdr", manifest.model, artifact.target, artifact.precision
        return Cell(name, artifact.sha256, lambda: row_of(export, artifact, latency=how["latency"]))

    def theirs(tool: Tool) -> Cell:
        name = tool.name, manifest.model, tool.target, tool.precision
        record = floats.get(tool.target)
        return Cell(
            name,
            record and record.sha256,
            lambda: tool_row(tool, export, record, samples, latency=how["latency"]),
        )

    return [*map(ours, (a for a in records if a.precision != "fp32")), *map(theirs, tools)]


def tool_row(
    tool: Tool,
    export: Export,
    record: Artifact | None,
    samples: Callable[[], list[list[Array]]],
    *,
    latency: bool,
) -> dict[str, Any]:
    """The row of a tool, whether it works, fails or is missing."""
    row = dict.fromkeys(FIELDS) | {
        "model": export.manifest.model, "target": tool.target, "precision": tool.precision,
        "ours": False, "tool": tool.name, "brackets": len(export.brackets),
    }  # fmt: skip
    if importlib.util.find_spec(tool.needs) is None:
        return row | {"skipped": f"{tool.needs} is not installed; {tool.install}"}
    if record is None:
        return row | {"skipped": f"no {tool.target} fp32 in {export.out.name}; export it too"}
    given = Given(export.out / str(record.file), export.out, export.manifest, samples())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{given.fp32.suffix}"
        try:
            with quiet():
                tool.make(given, path)
            return (
                row
                | losses(export.outputs(path, record), export)
                | {"latency_ms": latency_of(path) if latency else None}
                | {"int8_mac_share": integer_share(path, tool.target, tool.precision)}
            )
        except Exception as error:  # whatever a tool says is the row
            words = " ".join(str(error).split()) or "no message"
            return row | {"failed": f"{type(error).__name__}: {words[:200]}"}


# ---- what is written


class Table:
    """The rows in DOCS/int8.json: those of earlier runs, and each new one as it is made.

    Attributes:
        speed: rows of `int8_speed`, of this run or, without `--latency`, of an earlier one.
    """

    def __init__(self, docs: Path, brackets: int, *, latency: bool) -> None:
        self.docs, self.brackets, self.latency = docs, brackets, latency
        earlier = self._earlier()
        self._rows = {_key(row): row for row in earlier["rows"] if row["brackets"] == brackets}
        self.speed: list[dict[str, Any]] = earlier["speed"]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self._rows.values())

    def has(self, cell: Cell) -> bool:
        """Whether all figures of these very bytes are there."""
        row = self._rows.get(cell.key)
        if row is None or "failed" in row or "skipped" in row:
            return False
        timed = row["latency_ms"] is not None or not self.latency
        compared = not row["ours"] or "agreement_db" in row
        same = cell.sha256 is not None and row.get("made_of") == cell.sha256
        return same and timed and compared

    def add(self, cell: Cell) -> None:
        """Make the row of a cell and write it."""
        self._rows[cell.key] = cell.make() | {"made_of": cell.sha256}
        self._write()

    def add_speed(self, rows: list[dict[str, Any]]) -> None:
        """Put the rows of one network in place of those it had."""
        made = {row["model"] for row in rows}
        self.speed = [row for row in self.speed if row["model"] not in made] + rows
        self._write()

    def _write(self) -> None:
        data = {
            "command": self.command, "host": host(), "brackets": self.brackets, "rows": self.rows,
            "speed": self.speed,
        }  # fmt: skip
        text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_bytes(self.docs / "int8.json", text.encode(), overwrite=True)

    @property
    def command(self) -> str:
        """What makes the whole table."""
        names = " ".join(f"out/{model}" for model in sorted({row["model"] for row in self.rows}))
        return (
            f"python benchmarks/int8_tools.py {names} --cache hdr_images "
            f"--brackets ../shared/brackets --count {self.brackets}" + " --latency" * self.latency
        )

    def _earlier(self) -> dict[str, Any]:
        found: dict[str, Any] = {"rows": [], "speed": []}
        if (written := self.docs / "int8.json").exists():
            found |= json.loads(written.read_text(encoding="utf-8"))
        return found


def _key(row: dict[str, Any]) -> tuple[str, str, str, str]:
    tool = "pockethdr" if row["ours"] else row["tool"]
    return tool, row["model"], row["target"], row["precision"]


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


def agreement_table(rows: list[dict[str, Any]]) -> str:
    """How near the INT8 artifacts of any two targets come, in Markdown."""
    lines = ["| network | targets | mean, dB | least, dB |", "|---|---|---|---|"]
    ours = [row for row in rows if row["ours"] and row["precision"] == "int8"]
    for row in sorted(ours, key=lambda row: (row["model"], row["target"])):
        for other, near in sorted(row.get("agreement_db", {}).items()):
            if row["target"] < other:
                figures = f"{near['mean']:.1f} | {near['least']:.1f}"
                lines.append(f"| {row['model']} | {row['target']}, {other} | {figures} |")
    return "\n".join(lines) + "\n"


def page(written: Table) -> str:
    speed = (
        "## INT8 against FP32\n\nMedian milliseconds of one 256×256 tile, in a process of its own, "
        f"the two in turn. Goal for TFLite: 3.\n\n{speed_table(written.speed)}\n"
    )
    return (
        "# INT8 beside the tools' own quantisers\n\n"
        "The artifact minus the float network, both against ground truth, mean of "
        f"{written.brackets} simulated brackets of images that nothing here was trained or tuned "
        "on; negative is a loss. Every tool starts from the same FP32 weights, with its defaults; "
        "ModelOpt needs an environment of its own (`--modelopt PYTHON`). Core ML is judged by "
        "evaluating the saved program. dynint8: integer weights, activations' ranges measured at "
        "run time. ms: median of one 256×256 tile on one thread. INT8: the share of "
        "multiplications on integers. – was not measured. The networks are those that ship, "
        "and two of the ablation, exported with `--weights "
        "benchmarks/ablation/NAME.safetensors --tuned "
        "benchmarks/ablation/NAME-int8.safetensors`.\n\n"
        f"    {written.command}\n\n{table(written.rows)}\n"
        "## Targets against each other\n\n"
        "PSNR-µ in dB between the INT8 artifacts of two targets: the mean over the brackets, and "
        "the worst bracket. Goal: 50 on average. [Why Core ML is farther from the "
        "other two](decisions/003-one-quantised-program.md) than these from each other.\n\n"
        f"{agreement_table(written.rows)}\n{speed if written.speed else ''}"
        f"Host: {host()['cpu']}. Figures for machines: [int8.json](int8.json).\n"
    )


@click.command()
@click.argument("outs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--cache", required=True, type=click.Path(path_type=Path))
@click.option("--brackets", required=True, type=click.Path(path_type=Path), help="To calibrate on.")
@click.option("--count", default=24, show_default=True, help="At most this many test brackets.")
@click.option("--tiles", default=4, show_default=True, help="Calibration tiles of a bracket.")
@click.option("--latency", is_flag=True)
@click.option(
    "--modelopt",
    type=click.Path(path_type=Path),
    help="A Python interpreter that has ModelOpt; see the message of its row.",
)
@click.option("--docs", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
def main(
    outs: tuple[Path, ...],
    cache: Path,
    brackets: Path,
    count: int,
    tiles: int,
    latency: bool,
    modelopt: Path | None,
    docs: Path,
) -> None:
    """Measure, and write DOCS/int8.json and DOCS/int8.md."""
    judged = held_out(cache, count)
    written = Table(docs, len(judged), latency=latency)
    how = {"tiles": tiles, "latency": latency}
    tools = tools_with(modelopt)
    cells = [cell for out in outs for cell in cells_of(out, brackets, judged, tools, **how)]
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(cells))
        for cell in cells:
            tool, model, target, precision = cell.key
            bar.update(task, description=f"{model} {target} {precision}, {tool}")
            if not written.has(cell):
                written.add(cell)
            bar.advance(task)
        for out in outs if latency else ():
            bar.update(task, description=f"{out.name}: INT8 against FP32")
            written.add_speed(speeds(out))
    write_bytes(docs / "int8.md", page(written).encode(), overwrite=True)
    click.echo(table(written.rows))


if __name__ == "__main__":
    main()
