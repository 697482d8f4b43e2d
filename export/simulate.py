"""What a recipe loses, computed on the Q/DQ program in PyTorch, against ground truth.

    loss = PSNR(simulated INT8, truth) − PSNR(float network, truth)     in µ-law and linear light

each over all patches of one bracket together; negative is a loss. What one group of operations
costs by itself is predicted from its error D against the float output: errors of different origin
add, so that beside the float network's own error E it costs 10·log10(1 + D/E) dB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, fx

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.metrics import mu_law
from pockethdr.calibration.patches import Patches, chosen_patches, cut, padded
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import Recipe
from pockethdr.export.targets import LITERT_INT8

#: LiteRT's placement is the strictest of the targets'; folded weights round once, not every run.
SCHEME = replace(LITERT_INT8, fold_weights=True)


@dataclass(frozen=True)
class Loss:
    """Decibels against ground truth, INT8 minus float; negative is a loss."""

    mu_db: float
    l_db: float

    @property
    def worst(self) -> float:
        """How much is lost, in the metric that loses most; positive is a loss."""
        return -min(self.mu_db, self.l_db)

    def within(self, bound: float) -> bool:
        return self.worst <= bound


@dataclass(frozen=True)
class Scene:
    """Patches of one bracket: frames, truth, and the float network's output."""

    name: str
    frames: tuple[tuple[Tensor, ...], ...]
    truth: tuple[np.ndarray, ...]
    floats: tuple[np.ndarray, ...]


def scene_of(
    bracket: Bracket, network: torch.nn.Module, *, tile: tuple[int, int], patches: int
) -> Scene:
    """Patches of a bracket with ground truth, see `calibration.patches.chosen_patches`."""
    assert bracket.ground_truth is not None
    every = Patches(bracket, tile)
    truth = padded([bracket.ground_truth[None]], tile)
    places = chosen_patches(every, patches, 0)
    pieces = tuple(tuple(map(torch.from_numpy, every.at(place))) for place in places)
    with torch.no_grad():
        floats = tuple(network(*piece).numpy() for piece in pieces)
    return Scene(bracket.name, pieces, tuple(cut(truth, p, tile)[0] for p in places), floats)


@dataclass(frozen=True)
class Simulation:
    """A program, its ranges, and the scenes that recipes are tried on.

    Attributes:
        program: with the weights that become INT8.
        ranges: node name → (low, high).
    """

    program: fx.GraphModule
    ranges: Mapping[str, tuple[float, float]]
    scenes: tuple[Scene, ...]

    def loss(self, recipe: Recipe) -> Loss:
        """The mean over scenes."""
        program = self._quantized(recipe, self.ranges)
        return _mean(_loss(_outputs(program, scene), scene) for scene in self.scenes)

    def sensitivity(
        self, recipe: Recipe, ranges: Mapping[str, tuple[float, float]] | None = None
    ) -> Loss:
        """What the roundings of `recipe` cost beside the float network's own error: ≤ 0.

        Args:
            ranges: instead of the simulation's own.
        """
        program = self._quantized(recipe, ranges or self.ranges)
        return _mean(
            _predicted(_outputs(program, scene), floats, scene)
            for scene, floats in zip(self.scenes, self._floats, strict=True)
        )

    @cached_property
    def _floats(self) -> list[list[np.ndarray]]:
        """What the program returns on each scene before anything is rounded."""
        return [_outputs(self.program, scene) for scene in self.scenes]

    def _quantized(
        self, recipe: Recipe, ranges: Mapping[str, tuple[float, float]]
    ) -> fx.GraphModule:
        return quantized(self.program, ranges, recipe, SCHEME).program


def _outputs(program: fx.GraphModule, scene: Scene) -> list[np.ndarray]:
    with torch.no_grad():
        return [program(*piece).numpy() for piece in scene.frames]


def _loss(found: Sequence[np.ndarray], scene: Scene) -> Loss:
    (ours_mu, ours_l), (mu, l_) = _errors(found, scene.truth), _errors(scene.floats, scene.truth)
    return Loss(_decibel(mu / ours_mu), _decibel(l_ / ours_l))


def _predicted(found: Sequence[np.ndarray], floats: Sequence[np.ndarray], scene: Scene) -> Loss:
    (added_mu, added_l), (mu, l_) = _errors(found, floats), _errors(scene.floats, scene.truth)
    return Loss(-_decibel(1 + added_mu / mu), -_decibel(1 + added_l / l_))


def _errors(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean squared errors in µ-law and linear, over all patches."""
    ours, theirs = (np.clip(np.stack(x), 0, 1).astype(np.float64) for x in (found, wanted))
    floor = 1e-12  # of identical images, 120 dB
    in_mu = float(np.square(mu_law(ours) - mu_law(theirs)).mean())
    return in_mu + floor, float(np.square(ours - theirs).mean()) + floor


def _mean(losses: Iterable[Loss]) -> Loss:
    every = list(losses)
    return Loss(fmean(loss.mu_db for loss in every), fmean(loss.l_db for loss in every))


def _decibel(ratio: float) -> float:
    return 10 * math.log10(ratio)
