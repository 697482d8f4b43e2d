"""The four networks, the classical merge and the noisy frame, on images that none was trained on.

    OMP_NUM_THREADS=1 python benchmarks/results.py --cache hdr_images --brackets ../shared/brackets

Scores the committed weights on the test set of `pockethdr.brackets.testset` (raw, simulated, made
anew from the cache; the cache is gathered when it is not there), and writes docs/results.json,
docs/results.md and docs/results.jpg. Latency is PyTorch's, CPU time of one thread, the fastest of
several runs on one 256×256 packed bracket. `--runs DIR` scores runs of benchmarks/train_table.py
instead.

The four are compared at one budget. DSAN as it ships, trained on from there, has a row that no
comparison reads.
"""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from crops import picture
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import nn

from pockethdr.brackets.bracket import OUTPUT_CHANNELS, RAW, Bracket
from pockethdr.brackets.gather import gather
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.sources import INDEX, TEST, scenes
from pockethdr.brackets.testset import test_brackets
from pockethdr.files import write_bytes
from pockethdr.models import zoo
from pockethdr.models.cost import macs, parameters
from pockethdr.models.evaluate import Score, fused
from pockethdr.models.load import example_frames, load_model
from pockethdr.models.weights import trained_steps

DSAN = "dsan-m32"
FOUR = ("deephdr-mobile", "ahdrnet-mobile", "nhdrrnet-mobile", DSAN)
ABLATION = tuple(
    f"dsan-m32-{change}" for change in ("static", "global", "grid", "pixel", "l4", "free")
)
LONGER = ("dsan-m32-static", "dsan-m32-pixel")
SMALLER = ("dsan-m16",)
REFERENCE, MERGE = "noisy reference frame", "weighted merge"
METRICS = ("psnr_mu", "ssim_mu", "psnr_l", "ssim_l")
# Of the paper's Table I: 1024×768 on the network's grid.
COST_SIZE = (768, 1024)
TILE = 256
# Weights of a smaller budget than those that ship; `pixel` is here once more.
ABLATION_WEIGHTS = Path(__file__).parent / "ablation"
# DSAN's run of further steps, which ships, and its weights of the budget that the four have alike.
ON = f"{DSAN}-on"
EQUAL_BUDGET = Path(__file__).parent / "equal_budget" / f"{DSAN}.safetensors"
_BY_HAND = "<!-- From here on written by hand, and kept by the command. -->"

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One method. `ci95` are half widths of the 95 % intervals of the means over brackets."""

    model: str
    domain: str
    phi_mode: str | None
    params: int | None
    gmacs: float | None
    psnr_mu: float
    ssim_mu: float
    psnr_l: float
    ssim_l: float
    ci95: dict[str, float]
    latency_ms: float | None
    steps: int | None
    brackets: dict[str, Score]


@dataclass(frozen=True)
class Network:
    """A row's network and where its weights are from."""

    name: str
    module: nn.Module
    steps: int | None

    def image(self, bracket: Bracket) -> Image:
        return fused(self.module, bracket)


def networks(weights_of: Iterable[tuple[str, Path | None]]) -> list[Network]:
    """Those whose weights are here; the rest is named on standard error."""
    found = []
    for name, weights in weights_of:
        if weights is None or not weights.exists():
            click.echo(
                f"{name}: skipped: no weights; train them: benchmarks/train_table.py", err=True
            )
            continue
        module = load_model(name, domain=RAW, weights=weights).module
        found.append(Network(name, module, trained_steps(weights)))
    return found


def compared(runs: Path | None) -> list[tuple[str, Path | None]]:
    """Names and weights of the small network, then of the four."""
    names = (*SMALLER, *FOUR)
    if runs:
        return [(name, _newest(runs, name)) for name in names]
    shipped = {name: zoo.shipped_weights(name, RAW) for name in names}
    return list((shipped | {DSAN: EQUAL_BUDGET}).items())


def _newest(runs: Path, name: str) -> Path:
    """Of the last leg that there is."""
    legs = [runs / name, *sorted(runs.glob(f"{name}-more*"))]
    found = [leg / "ema.safetensors" for leg in legs]
    return next((path for path in reversed(found) if path.exists()), found[0])


def varied(runs: Path | None) -> list[tuple[str, Path | None]]:
    """Names and weights of the ablation; what ships has two of them at twice the budget, too."""
    if runs:
        return [(name, runs / "ablation" / name / "ema.safetensors") for name in ABLATION]
    longer = [(name, ABLATION_WEIGHTS / "longer" / f"{name}.safetensors") for name in LONGER]
    return [*((name, ABLATION_WEIGHTS / f"{name}.safetensors") for name in ABLATION), *longer]


def reference_frame(bracket: Bracket) -> Image:
    """The mid frame alone, in units of the short one's clip level."""
    return bracket.inputs()[1][0, OUTPUT_CHANNELS[bracket.domain] :]


def row(name: str, images: Iterable[Image], brackets: Sequence[Bracket], **facts: Any) -> Row:
    """Score one image per bracket."""
    scores = {}
    for bracket, image in zip(brackets, images, strict=True):
        assert bracket.ground_truth is not None
        scores[bracket.name] = Score.of(image, bracket.ground_truth)
    columns = {m: np.array([getattr(s, m) for s in scores.values()]) for m in METRICS}
    means = {m: float(column.mean()) for m, column in columns.items()}
    unknown = dict.fromkeys(("phi_mode", "params", "gmacs", "latency_ms", "steps"))
    return Row(
        model=name,
        domain=RAW,
        ci95={m: half_width(column) for m, column in columns.items()},
        brackets=scores,
        **means,
        **{**unknown, **facts},
    )


def half_width(values: NDArray[np.float64]) -> float:
    """Of the 95 % interval of the mean, normal approximation."""
    return float(1.96 * values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def network_row(network: Network, brackets: Sequence[Bracket]) -> Row:
    config = zoo.variant(network.name).config
    return row(
        network.name,
        map(network.image, brackets),
        brackets,
        phi_mode=getattr(config, "phi_mode", None),
        params=parameters(network.module),
        gmacs=round(macs(config, *COST_SIZE) / 1e9, 1),
        latency_ms=latency(network.module),
        steps=network.steps,
    )


def latency(module: nn.Module, runs: int = 7) -> float:
    """CPU milliseconds of the fastest of several runs: what else the host does hardly counts."""
    frames = example_frames(RAW, TILE, TILE)
    fastest = math.inf
    with torch.inference_mode():
        for _ in range(runs):
            begin = time.process_time()
            module(*frames)
            fastest = min(fastest, time.process_time() - begin)
    return 1000 * fastest


def lead(rows: Sequence[Row]) -> dict[str, Any] | None:
    """How far DSAN is ahead of the best other network, bracket by bracket."""
    four = {r.model: r for r in rows if r.model in FOUR}
    if set(four) != set(FOUR):
        return None
    dsan = four.pop(DSAN)
    best = max(four.values(), key=lambda r: r.psnr_mu)
    differences = {
        m: np.array(
            [getattr(dsan.brackets[b], m) - getattr(best.brackets[b], m) for b in dsan.brackets]
        )
        for m in METRICS
    }
    return {
        "best_other": best.model,
        **{m: float(d.mean()) for m, d in differences.items()},
        "ci95": {m: half_width(d) for m, d in differences.items()},
    }


def markdown(
    rows: Sequence[Row], ablation: Sequence[Row], ahead: dict[str, Any] | None, count: int
) -> str:
    lines = [
        "# Results",
        "",
        f"Mean over {count} simulated raw brackets of images that no network was trained on,",
        "± the half width of the 95 % interval of that mean. MACs at 1024×768; CPU milliseconds of",
        f"PyTorch, one thread of {platform.machine()}, for one 256×256 packed bracket. Written by",
        "`python benchmarks/results.py --cache hdr_images --brackets ../shared/brackets`.",
        "",
        *_table(rows),
        "",
    ]
    if ahead:
        lines += [
            f"Bracket by bracket and at one budget, {DSAN} minus {ahead['best_other']}, the best "
            f"of the others: {ahead['psnr_mu']:+.2f} ± {ahead['ci95']['psnr_mu']:.2f} dB PSNR-µ, "
            f"{ahead['psnr_l']:+.2f} ± {ahead['ci95']['psnr_l']:.2f} dB PSNR-ℓ.",
            "",
        ]
    title = "## What Φ varies over, a latent of four, and Φ without its bound"
    return "\n".join([*lines, title, "", *_table(ablation), ""])


def _table(rows: Sequence[Row]) -> list[str]:
    head = "| | steps | PSNR-µ | SSIM-µ | PSNR-ℓ | SSIM-ℓ | parameters | GMAC | ms |"
    lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        lines.append(
            f"| {r.model} | {_or_dash(r.steps, ',d')} | {r.psnr_mu:.2f} ± {r.ci95['psnr_mu']:.2f} "
            f"| {r.ssim_mu:.4f} ± {r.ci95['ssim_mu']:.4f} "
            f"| {r.psnr_l:.2f} ± {r.ci95['psnr_l']:.2f} | {r.ssim_l:.4f} ± {r.ci95['ssim_l']:.4f} "
            f"| {_or_dash(r.params, ',d')} | {_or_dash(r.gmacs, '.1f')} "
            f"| {_or_dash(r.latency_ms, '.0f')} |"
        )
    return lines


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), required=True)
@click.option(
    "--brackets", type=click.Path(path_type=Path), help="With hdrgt_* folders, to gather."
)
@click.option("--runs", type=click.Path(path_type=Path), help="Of benchmarks/train_table.py.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("docs"), show_default=True)
def main(cache: Path, brackets: Path | None, runs: Path | None, out: Path) -> None:
    """Score, and write results.json, results.md and results.jpg."""
    torch.set_num_threads(1)
    if not (cache / INDEX).exists():
        gather(cache, brackets, lambda line: click.echo(line, err=True))
    tests = list(test_brackets(scenes(cache, TEST)))
    found, others = networks(compared(runs)), networks(varied(runs))
    on = runs / ON / "ema.safetensors" if runs else zoo.shipped_weights(DSAN, RAW)
    longer = networks([(DSAN, on)])
    rows = [
        row(REFERENCE, map(reference_frame, tests), tests),
        row(MERGE, map(weighted_merge, tests), tests),
    ]
    for network in _tracked(found):
        rows.append(network_row(network, tests))
    ablation = [network_row(network, tests) for network in _tracked(others)]
    ahead = lead(rows)
    rows += [network_row(network, tests) for network in longer]
    _write(out, rows, ablation, ahead, len(tests))
    shown = {n.name: n.image for name in FOUR for n in found if n.name == name}
    methods = {REFERENCE: reference_frame, MERGE: weighted_merge} | shown
    picture(tests, methods, out / "results.jpg")
    click.echo(markdown(rows, ablation, ahead, len(tests)))


def _tracked(found: Sequence[Network]) -> Iterable[Network]:
    return track(found, "scoring", console=Console(stderr=True), transient=True)


def _write(
    out: Path,
    rows: Sequence[Row],
    ablation: Sequence[Row],
    ahead: dict[str, Any] | None,
    count: int,
) -> None:
    host = f"{platform.machine()}, one thread, torch {torch.__version__}"
    facts = {
        "host": host,
        "brackets": count,
        "rows": [asdict(r) for r in rows],
        "ablation": [asdict(r) for r in ablation],
        "lead": ahead,
    }
    text = json.dumps(facts, indent=1) + "\n"
    write_bytes(out / "results.json", text.encode(), overwrite=True)
    page = out / "results.md"
    text = markdown(rows, ablation, ahead, count) + by_hand(page)
    write_bytes(page, text.encode(), overwrite=True)


def by_hand(page: Path) -> str:
    """What a person wrote below `_BY_HAND`: kept, since no command can judge a picture."""
    kept = page.read_text().partition(_BY_HAND)[2] if page.exists() else ""
    return f"\n![crops](results.jpg)\n\n{_BY_HAND}{kept or chr(10)}"


if __name__ == "__main__":
    main()
