"""Several exports side by side: which network, in which format, how good and how fast.

It reads what was judged before (`report.json` of each export) and measures nothing again. Exports
that were judged on other brackets, by other bounds or on another host are refused: their figures do
not compare.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pockethdr.brackets.layout import shared_names
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.errors import ArtifactError
from pockethdr.files import write_bytes
from pockethdr.report.chart import Point, scatter
from pockethdr.report.panels import Strip, strip
from pockethdr.report.report import HEADERS, HTML_NAME, JSON_NAME, page, state, verdict
from pockethdr.report.row import Row
from pockethdr.report.terminal import figures
from pockethdr.report.thresholds import Thresholds


@dataclass(frozen=True)
class JudgedExport:
    """One export and what its report says.

    Attributes:
        thresholds: that its rows were judged by.
        host: that they were measured on.
        brackets: the sha256 of each by its name, None where an older version did not record it.
    """

    out: Path
    rows: tuple[Row, ...]
    thresholds: Thresholds
    host: dict[str, Any]
    manifest: dict[str, Any]
    brackets: dict[str, str | None]

    @property
    def model(self) -> str:
        return str(self.manifest["model"])

    @property
    def threads(self) -> int:
        """Of each runtime: one number for all rows."""
        return self.rows[0].threads


def write_comparison(
    outs: Sequence[Path], html: Path, *, brackets: Sequence[Path] = (), command: str = ""
) -> list[Row]:
    """Write one page about several exports, and return the rows of all.

    Args:
        outs: folders that `pockethdr report` was run on.
        html: the page; each network's own report is linked relative to it.
        brackets: bracket folders, or folders of them, to picture; those of the exports' domain are
            used, and none leaves the pictures out.
        command: how to make the page again.

    Raises:
        ArtifactError: a folder has no report, or the reports do not compare.
    """
    judged = [read_judged(out) for out in outs]
    _check_comparable(judged)
    domain = str(judged[0].manifest["domain"])
    shown = [folder for root in brackets for folder in find_brackets(root, domain=domain)]
    names = shared_names(shown)
    strips = []
    for folder in shown:
        bracket = read_bracket(folder, domain=domain)
        bracket = replace(bracket, name=names.get(folder, bracket.name))
        strips.append(strip(bracket, [each.out for each in judged]))
    write_bytes(html, _page(judged, strips, html, command).encode(), overwrite=True)
    return [row for each in judged for row in each.rows]


def read_judged(out: Path) -> JudgedExport:
    """What `out`/report.json says.

    Raises:
        ArtifactError: there is none, it is not one of ours, or holds nothing.
    """
    path = out / JSON_NAME
    fix = f"run `pockethdr report {out} --brackets …` first"
    if not path.is_file():
        raise ArtifactError(f"{path}: no such report", expected="a judged export", fix=fix)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(Row.from_json(row) for row in data["rows"])
        bounds = Thresholds(**data["thresholds"])
        brackets = {each["bracket"]: each.get("bracket_sha256") for each in data["details"]}
        judged = JudgedExport(out, rows, bounds, data["host"], data["manifest"], brackets)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path}: not a readable report ({error})", fix=fix) from error
    if not rows:
        raise ArtifactError(f"{path}: no artifact was judged", expected="one at least", fix=fix)
    return judged


def _check_comparable(judged: Sequence[JudgedExport]) -> None:
    first = judged[0]
    for each in judged[1:]:
        for what, ours, theirs in (
            ("brackets", sorted(first.brackets), sorted(each.brackets)),
            ("contents of brackets", *_contents(first, each)),
            ("numbers of threads", first.threads, each.threads),
            ("hosts", first.host, each.host),
            ("domains", first.manifest["domain"], each.manifest["domain"]),
            ("thresholds", first.thresholds, each.thresholds),
        ):
            if ours != theirs:
                raise ArtifactError(
                    f"{each.out} and {first.out} were judged with different {what}: "
                    f"{theirs} and {ours}",
                    expected="exports judged alike, so that their figures compare",
                    fix="run `pockethdr report` on each with the same --brackets and --threads, "
                    "on one host",
                )


def _contents(*both: JudgedExport) -> Iterator[dict[str, str]]:
    """The start of the sha256 of each bracket of which both reports say it."""
    names = [n for n in both[0].brackets if all(each.brackets.get(n) for each in both)]
    return ({n: f"{each.brackets[n]:.12}…" for n in names} for each in both)


def _page(judged: Sequence[JudgedExport], strips: Sequence[Strip], html: Path, command: str) -> str:
    rows = [row for each in judged for row in each.rows]
    return page(
        "compare.html",
        verdict=_count(judged) + verdict(rows, judged[0].thresholds, models=True),
        state=state(rows),
        headers=HEADERS,
        groups=[_group(each, number, html) for number, each in enumerate(judged)],
        chart=_chart(judged),
        strips=strips,
        brackets=sorted(judged[0].brackets),
        host=judged[0].host,
        threads=judged[0].threads,
        command=command,
    )


def _count(judged: Sequence[JudgedExport]) -> str:
    return "One network. " if len(judged) == 1 else f"{len(judged)} networks. "


def _group(judged: JudgedExport, number: int, html: Path) -> dict[str, Any]:
    report = judged.out / HTML_NAME
    return {
        "model": judged.model,
        "style": _style(number),
        "size": judged.manifest["size"],
        "report": _relative(report, html.parent),
        "rows": [(row, figures(row)) for row in judged.rows],
    }


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError:
        return path.resolve().as_uri()


def _chart(judged: Sequence[JudgedExport]) -> str:
    """PSNR-µ against ground truth over latency: the colour is the network, a ring is INT8."""
    points = [
        Point(row.name, row.latency_ms["p50"], row.psnr_mu, f"{_style(number)} {row.precision}")
        for number, each in enumerate(judged)
        for row in each.rows
        if row.latency_ms and row.psnr_mu is not None
    ]
    return scatter(points, vertical="PSNR-µ against ground truth", gates={})


def _style(number: int) -> str:
    return f"net{number % 6}"
