"""Training batches: random photographs of random pieces of random scenes."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pockethdr.brackets.bracket import FLIPS, RAW
from pockethdr.brackets.noise import brooks_noise, noise_of, phones
from pockethdr.brackets.simulate import simulate
from pockethdr.brackets.simulation import SimulationSettings, log_uniform
from pockethdr.models.loader import Batch

_MARGIN = 16
# Patches stay in memory for a while and are met about this many times: simulating costs as much
# as a training step of a small network.
_MEETINGS = 4
_WINDOW = 768
_CAPTURED_SHARE = 0.65

Scenes = dict[str, NDArray[np.float16]]
Sample = tuple[NDArray[np.float32], ...]


@dataclass
class SimulatedPatches:
    """An endless, seeded stream of batches. Batch n is the same whenever it is asked for.

    Attributes:
        scenes: what to photograph; names that begin with `invented` are procedural.
        patch: side of a patch in sensor pixels (mosaic for raw).
        stream: patches of another stream have nothing in common with this one's.
    """

    domain: str
    scenes: Scenes
    patch: int
    batch: int
    seed: int
    stream: int = 0

    def __post_init__(self) -> None:
        self._made: OrderedDict[int, Sample] = OrderedDict()
        names = sorted(self.scenes)
        self._captured = [n for n in names if not n.startswith("invented")]
        self._invented = [n for n in names if n.startswith("invented")]
        areas = np.array([self.scenes[n][..., 0].size for n in self._captured], np.float64)
        self._shares = np.sqrt(areas) / np.sqrt(areas).sum()

    def get(self, step: int) -> Batch:
        """Short, mid, long (N×C×h×w) and ground truth of one step."""
        first = step * self.batch // _MEETINGS
        rng = np.random.default_rng((self.seed, 1, self.stream, step))
        numbers = rng.integers(first, first + _WINDOW, self.batch)
        return _batch([self._patch(int(n)) for n in numbers])

    def fixed(self, count: int) -> Batch:
        """A batch apart from the stream, for the running PSNR."""
        return _batch([self._make(-1 - n) for n in range(count)])

    def _patch(self, number: int) -> Sample:
        if number not in self._made:
            self._made[number] = self._make(number)
            if len(self._made) > _WINDOW:
                self._made.popitem(last=False)
        return self._made[number]

    def _make(self, number: int) -> Sample:
        rng = np.random.default_rng((self.seed, 2, self.stream, abs(number), number < 0))
        scene = self.scenes[self._scene(rng)]
        piece = _retouched(_piece(scene, self.patch + 2 * _MARGIN, rng), rng)
        bracket = simulate(piece, random_settings(self.domain, rng), seed=int(rng.integers(2**31)))
        truth = bracket.ground_truth
        assert truth is not None
        return (*bracket.inputs(), truth[None])

    def _scene(self, rng: np.random.Generator) -> str:
        """Mostly captured images, larger ones more often; they show more."""
        captured = rng.random() < _CAPTURED_SHARE or not self._invented
        if captured and self._captured:
            return self._captured[rng.choice(len(self._captured), p=self._shares)]
        return self._invented[rng.integers(len(self._invented))]


def _batch(samples: list[Sample]) -> Batch:
    short, mid, long, truth = (
        torch.from_numpy(np.concatenate(parts)) for parts in zip(*samples, strict=True)
    )
    return short, mid, long, truth


def random_settings(domain: str, rng: np.random.Generator) -> SimulationSettings:
    """A photographer's luck: from noon on a tripod to night from a moving hand."""
    moving, shaking = rng.random() < 0.5, rng.random() < 0.75
    bits = int(rng.choice([10, 10, 12]))
    common = SimulationSettings(
        domain=domain,
        noise=_random_noise(rng),
        brightness=log_uniform(rng, 0.003, 1.2),
        cfa=str(rng.choice(sorted(FLIPS))),
        bit_depth=bits,
        black_level=int(rng.choice([16, 64])) * 4 ** (bits > 10),
        shake_px=log_uniform(rng, 0.5, 14.0) if shaking else 0.0,
        shake_deg=rng.uniform(0.0, 0.5) if shaking else 0.0,
        blur_px=rng.uniform(0.0, 8.0) if rng.random() < 0.3 else 0.0,
        object_px=log_uniform(rng, 2.0, 60.0) if moving else 0.0,
        object_size=rng.uniform(0.1, 0.4),
        objects=int(rng.integers(1, 4)),
        shading=rng.uniform(0.0, 1.5) if rng.random() < 0.5 else 0.0,
        shading_view=_random_view(rng),
        margin=_MARGIN,
        ratio=_random_ratios(domain, rng),
    )
    return common if domain == RAW else _processed(common, rng)


def _random_view(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Where on the sensor a patch lies: it covers a small part of it."""
    side = rng.uniform(0.05, 0.3)
    top, left = rng.uniform(0.0, 1.0 - side, 2)
    return float(top), float(left), side, side


def _processed(settings: SimulationSettings, rng: np.random.Generator) -> SimulationSettings:
    """Phone JPEGs: retouched, coded, and by a curve that is not quite sRGB."""
    return replace(
        settings,
        curve=math.exp(rng.normal(0.0, 0.12)),
        contrast=rng.uniform(0.0, 0.6),
        saturation=rng.uniform(0.9, 1.5),
        denoise=rng.uniform(0.1, 1.0) if rng.random() < 0.7 else 0.0,
        sharpen=rng.uniform(0.0, 0.8) if rng.random() < 0.5 else 0.0,
        drift=0.02,
        jpeg_quality=int(rng.integers(70, 98)) if rng.random() < 0.7 else None,
    )


def _random_noise(rng: np.random.Generator) -> tuple[float, float]:
    if rng.random() < 0.5:
        return brooks_noise(rng)
    return noise_of(str(rng.choice(phones())), log_uniform(rng, 100, 6400))


def _random_ratios(domain: str, rng: np.random.Generator) -> tuple[float, float]:
    """Mostly fours, as phones bracket; else anything, and not always even steps."""
    if rng.random() < 0.4:
        return 4.0, 16.0
    low, high = (2.0, 16.0) if domain == RAW else (2.0, 5.0)
    mid = log_uniform(rng, low, high)
    return mid, mid * min(high, max(low, mid * math.exp(rng.normal(0.0, 0.15))))


def _piece(scene: NDArray[np.float16], side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random square of the scene, shrunk by up to 2.5, mirrored or turned at random."""
    height, width = scene.shape[:2]
    taken = min(int(side * log_uniform(rng, 1.0, 2.5)), height, width)
    y, x = rng.integers(0, (height - taken + 1, width - taken + 1))
    # Widened by torch, which is four times as fast at it.
    piece = torch.from_numpy(scene[y : y + taken, x : x + taken]).float().numpy()
    if taken != side:
        shrunk = cv2.resize(piece, (side, side), interpolation=cv2.INTER_AREA)
        piece = np.asarray(shrunk, np.float32)
    piece = piece[:, ::-1] if rng.random() < 0.5 else piece
    return np.rot90(piece, int(rng.integers(4)))


def _retouched(piece: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Other colours, another contrast, and sometimes a lamp or a shadow."""
    piece = piece ** np.float32(rng.uniform(0.8, 1.3))
    piece = piece * np.exp(rng.normal(0.0, 0.15, 3)).astype(np.float32)
    if rng.random() < 0.3:
        side = piece.shape[0]
        mask = np.zeros((side, side), np.float32)
        centre, axes = rng.integers(0, side, 2), rng.integers(3, side // 3, 2)
        cv2.ellipse(mask, centre.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 1.0, -1)
        soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 6.0)), np.float32)
        gain = log_uniform(rng, 4.0, 300.0) if rng.random() < 0.5 else log_uniform(rng, 0.01, 0.3)
        piece = piece * (1 + soft[..., None] * np.float32(gain - 1))
    return np.ascontiguousarray(piece)
