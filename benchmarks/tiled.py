"""Tiles against the whole: the same artifact at two sizes, on a frame of odd size.

    python benchmarks/tiled.py --docs docs

Each network is exported once as tiles and once as large as the frame, with the same weights and the
same calibration; `fuse` runs the tiles, the runtime alone the whole. What differs is the tiling.
`seams` is the mean step of the µ-law image across borders between tiles, over that of the untiled
image at the same places: 1 where no border shows. Writes docs/tiled.md and docs/tiled.json, where
networks that this run was not asked for keep the rows of an earlier one on this host; status 1
where a limit is missed: 80 dB for FP32, 60 dB for FP16 and INT8, seams within 2 % of 1.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import numpy as np

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.metrics import mu_law, psnr
from pockethdr.brackets.read import read_bracket
from pockethdr.calibration.calibration import Calibration
from pockethdr.export.manifest import Manifest
from pockethdr.export.materials import CALIBRATION_NAME
from pockethdr.export.pipeline import export_model
from pockethdr.export.tuned import chosen_recipe
from pockethdr.files import write_bytes
from pockethdr.models.load import load_model
from pockethdr.report.host import host
from pockethdr.runtime.artifact import Deployed, deployed
from pockethdr.runtime.context import context_of, inputs_at
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.fuse import Fuser
from pockethdr.runtime.runner import Array, open_runner
from pockethdr.runtime.tiling import planned

NETWORKS = ("dsan-m32", "ahdrnet-mobile", "deephdr-mobile", "nhdrrnet-mobile")
LIMITS = {"fp32": 80.0, "fp16": 60.0, "int8": 60.0}
SEAMS = 0.02
# On the network's grid. More than two halos of each network, and no divisor of the frame.
TILE, FRAME = (208, 224), (239, 319)
SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))


@dataclass(frozen=True)
class Row:
    """One artifact; `db` is PSNR of the linear image, 1.0 = clip level of the short frame, or None
    where not one bit differs."""

    network: str
    target: str
    precision: str
    tiles: int
    db: float | None
    seams: float

    @property
    def passed(self) -> bool:
        near = self.db is None or self.db >= LIMITS[self.precision]
        return near and abs(self.seams - 1) <= SEAMS


@click.command()
@click.option("--bracket", type=click.Path(path_type=Path), default=SAMPLE)
@click.option("--networks", default=",".join(NETWORKS), show_default=True)
@click.option("--targets", default="tflite,onnx", show_default=True)
@click.option("--precisions", default="fp32,fp16,int8", show_default=True)
@click.option("--work", type=click.Path(path_type=Path), help="Keep the exports here.")
@click.option("--docs", type=click.Path(path_type=Path), help="Where to write the two files.")
def main(
    bracket: Path,
    networks: str,
    targets: str,
    precisions: str,
    work: Path | None,
    docs: Path | None,
) -> None:
    """Compare, print the table, and exit with 1 where a limit is missed."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in networks.split(","):
            asked = tuple(targets.split(",")), tuple(precisions.split(","))
            rows += compared(name, bracket, work or Path(scratch), *asked)
    if docs:
        rows = [*kept(docs / "tiled.json", networks.split(",")), *rows]
        rows.sort(key=lambda row: [*NETWORKS, row.network].index(row.network))
        write_bytes(docs / "tiled.md", table(rows).encode(), overwrite=True)
        found = {"host": host(), "rows": [asdict(row) for row in rows]}
        text = json.dumps(found, indent=1) + "\n"
        write_bytes(docs / "tiled.json", text.encode(), overwrite=True)
    click.echo(table(rows))
    sys.exit(0 if all(row.passed for row in rows) else 1)


def kept(path: Path, measured: Sequence[str]) -> list[Row]:
    """The rows of networks not `measured` now, where the same host and versions made them."""
    before = json.loads(path.read_text()) if path.exists() else {}
    rows = [Row(**row) for row in before.get("rows", [])] if before.get("host") == host() else []
    return [row for row in rows if row.network not in measured]


def compared(
    name: str, folder: Path, work: Path, targets: tuple[str, ...], precisions: tuple[str, ...]
) -> list[Row]:
    """The rows of one network."""
    loaded = load_model(name, domain="raw")
    recipe, tuned = chosen_recipe(loaded, None, None)
    settings: dict[str, Any] = {
        "targets": targets, "precisions": precisions, "bracket_folders": [folder],
        "recipe": recipe, "tuned": tuned, "patches": 4, "overwrite": True,
        "progress": lambda what: click.echo(f"{name}: {what}", err=True),
    }  # fmt: skip
    small = export_model(loaded, out=work / name / "tile", size=TILE, **settings)
    if "int8" in precisions:
        settings["calibration"] = Calibration.load(work / name / "tile" / CALIBRATION_NAME)
    size = tuple(-(-side // small.multiple) * small.multiple for side in FRAME)
    export_model(loaded, out=work / name / "whole", size=size, **settings)
    bracket = cropped(read_bracket(folder, domain="raw"))
    rows = []
    for artifact in small.artifacts:
        tiled, whole = (deployed(work / name / part / str(artifact.file)) for part in _PARTS)
        rows.append(
            Row(name, artifact.target, artifact.precision, *distance(tiled, whole, bracket))
        )
        click.echo(str(rows[-1]), err=True)
    return rows


def cropped(bracket: Bracket) -> Bracket:
    """The bracket without what lies beyond FRAME."""
    height, width = (2 * side for side in FRAME)
    short, mid, long = (
        replace(frame, pixels=np.asarray(frame.pixels)[:height, :width]) for frame in bracket.frames
    )
    return replace(bracket, frames=(short, mid, long), ground_truth=None)


def distance(tiled: Deployed, whole: Deployed, bracket: Bracket) -> tuple[int, float | None, float]:
    """(tiles, dB, seams) of a tile artifact from the one that is as large as the frame."""
    with Fuser(tiled.path, threads=1) as fuser:
        image = fuser.fuse(bracket)
    expected = _whole(tiled, whole, bracket)
    same = np.array_equal(image.pixels, expected)
    db = None if same else float(psnr(image.pixels, expected, data_range=1.0))
    return image.tiles, db, _seams(tiled.manifest, image.pixels, expected)


def _whole(tiled: Deployed, whole: Deployed, bracket: Bracket) -> Array:
    """C×H×W in one run, told the same of the whole image as the tiles."""
    (place,), _ = planned(whole.manifest, bracket.size())
    context = context_of(tiled, Feed(bracket), threads=1)
    inputs = inputs_at(place, bracket.inputs(), context)
    with closing(open_runner(whole.path, whole.record.target)) as runner:
        return runner.run(inputs)[0][:, : bracket.size()[0], : bracket.size()[1]]


def _seams(manifest: Manifest, image: Array, expected: Array) -> float:
    """The mean step across borders of tiles, over that of the `expected` image."""
    plan, _ = planned(manifest, (image.shape[1], image.shape[2]))
    rows = sorted({tile.rows.own[0] for tile in plan} - {0})
    columns = sorted({tile.columns.own[0] for tile in plan} - {0})

    def step(shown: Array) -> float:
        coded = mu_law(np.clip(shown, 0, 1))
        down, across = np.abs(np.diff(coded, axis=1)), np.abs(np.diff(coded, axis=2))
        return float(down[:, np.array(rows) - 1].mean() + across[..., np.array(columns) - 1].mean())

    return step(image) / step(expected)


def table(rows: list[Row]) -> str:
    """docs/tiled.md."""
    lines = [
        "# Tiles against the whole",
        "",
        f"`python benchmarks/tiled.py --docs docs`: a frame of {FRAME[0]}×{FRAME[1]} on the "
        f"network's grid, tiles of {TILE[0]}×{TILE[1]}. dB of the tiled image against the untiled "
        "run of the same network with the same ranges; seams: the steps across borders of tiles "
        "over those of the untiled image at the same places. Limits: "
        + ", ".join(f"{limit:g} dB {name}" for name, limit in LIMITS.items())
        + f"; seams 1 ± {SEAMS:g}. "
        "Both are told the same by the context graph, where there is one.",
        "",
        "| network | target | precision | tiles | dB | seams | |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.network} | {r.target} | {r.precision} | {r.tiles} | {_shown(r.db)} | {r.seams:.4f} "
        f"| {'' if r.passed else 'missed'} |"
        for r in rows
    ]
    missing = [name for name in NETWORKS if name not in {row.network for row in rows}]
    lines += ["", f"Not measured here: {', '.join(missing)}."] if missing else []
    return "\n".join(lines) + "\n"


def _shown(db: float | None) -> str:
    return "identical" if db is None else f"{db:.1f}"


_PARTS = ("tile", "whole")

if __name__ == "__main__":
    main()
