"""A network against the classical merge, on brackets with ground truth.

python -m pockethdr.models.evaluate dsan-m32 --domain raw --brackets DIR [--weights F]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.merge import weighted_merge
from pockethdr.brackets.metrics import psnr_l, psnr_mu
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.errors import PocketError
from pockethdr.models.load import load_model
from pockethdr.models.weights import load_weights, read_header, save_weights

# Every network of the zoo accepts sizes that divide by this.
_MULTIPLE = 8


@dataclass(frozen=True)
class Score:
    """PSNR in dB of the network and of the weighted merge, on one bracket."""

    bracket: str
    psnr_mu: float
    psnr_l: float
    merge_psnr_mu: float
    merge_psnr_l: float


def scores(module: nn.Module, brackets: Iterable[Bracket]) -> list[Score]:
    """One score for each bracket that has a ground truth; whole frames, no tiles."""
    return [_score(module, b) for b in brackets if b.ground_truth is not None]


def _score(module: nn.Module, bracket: Bracket) -> Score:
    truth = bracket.ground_truth
    assert truth is not None
    frames = [torch.from_numpy(_cut(frame)) for frame in bracket.inputs()]
    with torch.no_grad():
        fused = module(*frames)[0].numpy()
    truth, merged = _cut(truth), _cut(weighted_merge(bracket))
    return Score(
        bracket.name,
        psnr_mu(fused, truth),
        psnr_l(fused, truth),
        psnr_mu(merged, truth),
        psnr_l(merged, truth),
    )


def _cut(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = (size - size % _MULTIPLE for size in planes.shape[-2:])
    return np.ascontiguousarray(planes[..., :height, :width])


def _main() -> None:
    parser = argparse.ArgumentParser(description="PSNR of a network and of the weighted merge.")
    parser.add_argument("model")
    parser.add_argument("--domain", choices=("raw", "rgb"), default="raw")
    parser.add_argument("--brackets", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--publish", type=Path, help="write the weights here, with the scores in their header"
    )
    given = parser.parse_args()
    try:
        loaded = load_model(given.model, domain=given.domain, weights=given.weights)
        folders = find_brackets(given.brackets, domain=given.domain)
        found = scores(loaded.module, map(read_bracket, folders))
        _show(found)
        if given.publish and loaded.weights:
            _publish(loaded.module, loaded.weights, found, given.publish)
    except PocketError as error:
        sys.exit(f"error: {error}")


def _show(found: list[Score]) -> None:
    print(f"{'bracket':28s} {'PSNR-µ':>7s} {'merge':>7s} {'PSNR-l':>7s} {'merge':>7s}")
    for s in found:
        print(
            f"{s.bracket:28s} {s.psnr_mu:7.2f} {s.merge_psnr_mu:7.2f} "
            f"{s.psnr_l:7.2f} {s.merge_psnr_l:7.2f}"
        )


def _publish(module: nn.Module, weights: Path, found: list[Score], to: Path) -> None:
    header = read_header(weights)
    load_weights(weights, module)
    metrics = {**header.get("metrics", {}), "brackets": [asdict(score) for score in found]}
    save_weights(to, module, {**header, "metrics": metrics})


if __name__ == "__main__":
    _main()
