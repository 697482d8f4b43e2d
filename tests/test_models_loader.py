"""Batches: the same whoever makes them, in the order of their steps, from the training images."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from sources_cache import filled

from pockethdr.brackets.mobilehdr import read_npz
from pockethdr.brackets.sources import TRAIN, scenes
from pockethdr.errors import BracketError
from pockethdr.models.loader import Stages, batches
from pockethdr.models.mobilehdr_patches import MobileHdrPatches, training_files
from pockethdr.models.patches import SimulatedPatches, random_settings


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    return scenes(filled(tmp_path_factory.mktemp("sources") / "cache"), TRAIN)


@pytest.mark.parametrize(("domain", "channels"), [("raw", (8, 4, 16)), ("rgb", (6, 3, 32))])
def test_batches_are_the_same_whenever_asked_for(
    domain: str, channels: tuple[int, int, int], images: dict[str, np.ndarray]
) -> None:
    first, other = (SimulatedPatches(domain, images, 32, 3, 7) for _ in range(2))
    for step in (0, 1, 50):
        first.get(step)
    for a, b in zip(first.get(50), other.get(50), strict=True):
        assert torch.equal(a, b)
    short, _, _, truth = first.get(4)
    planes, out, side = channels
    assert short.shape == (3, planes, side, side)
    assert truth.shape == (3, out, side, side)
    assert 0 <= truth.min() <= truth.max() <= 1
    apart = SimulatedPatches(domain, images, 32, 3, 7, stream=1)
    assert not torch.equal(apart.get(4)[0], short)


@pytest.mark.parametrize("workers", [1, 2])
def test_other_processes_make_the_same_batches_and_the_stage_turns(
    workers: int, images: dict[str, np.ndarray]
) -> None:
    stages = Stages(
        SimulatedPatches("raw", images, 32, 2, 0),
        SimulatedPatches("raw", images, 48, 1, 0, 1),
        turn=5,
    )
    made = list(batches(stages, 3, 7, workers=workers))
    assert [tuple(batch[3].shape) for batch in made] == [(2, 4, 16, 16)] * 2 + [(1, 4, 24, 24)] * 2
    for step, batch in enumerate(made, start=3):
        for ours, theirs in zip(stages[step], batch, strict=True):
            assert torch.equal(ours, theirs)
    endless = islice(batches(Stages(stages.early, stages.late, None), 0, None, workers=0), 3)
    assert len(list(endless)) == 3


def test_a_photographers_luck_has_all_of_it() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_settings("raw", rng) for _ in range(300)]
    assert {s.cfa for s in drawn} == {"RGGB", "BGGR", "GRBG", "GBRG"}
    assert {s.bit_depth for s in drawn} == {10, 12}
    assert {s.objects for s in drawn} == {1, 2, 3}
    assert max(s.object_px for s in drawn) > 50
    ratios = [s.ratio[0] for s in drawn if isinstance(s.ratio, tuple)]
    assert (min(ratios) < 2.5, max(ratios) > 12) == (True, True)
    assert 0.3 < np.mean([s.shading > 0 for s in drawn]) < 0.7


@pytest.fixture
def sample(shared_brackets: Path) -> Path:
    return shared_brackets / "mobilehdr_layout_sample"


def test_mobile_hdr_is_cropped_as_it_is(sample: Path) -> None:
    files = training_files(sample)
    patches = MobileHdrPatches(files, 32, 2, seed=3)
    short, mid, long, truth = patches.get(5)
    for again, ours in zip(
        MobileHdrPatches(files, 32, 2, seed=3).get(5), patches.get(5), strict=True
    ):
        assert torch.equal(again, ours)
    bracket = read_npz(files[0])
    whole = torch.from_numpy(np.concatenate([*bracket.inputs(), bracket.ground_truth[None]], 1))
    crop = torch.cat([short, mid, long, truth], 1)[0]
    windows = whole[0].unfold(1, 32, 1).unfold(2, 32, 1)
    assert bool((windows[0] == crop[0]).all(-1).all(-1).any())
    found = (windows[0] == crop[0]).all(-1).all(-1).nonzero()[0]
    assert torch.equal(windows[:, found[0], found[1]], crop)


def test_mobile_hdr_files_are_those_to_train_on_in_order(sample: Path, tmp_path: Path) -> None:
    (npz,) = sample.glob("*.npz")
    for place in ("training_npz/dynamic/b", "training_npz/dynamic/a", "test_npz/test_withGT/c"):
        target = tmp_path / "NPZ_data" / f"{place}.npz"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(npz)
    assert [path.stem for path in training_files(tmp_path)] == ["a", "b"]
    with pytest.raises(BracketError, match="no training files"):
        training_files(tmp_path / "NPZ_data" / "test_npz")
    with pytest.raises(BracketError, match="packed pixels"):
        MobileHdrPatches([npz], 4096, 1, seed=0).get(0)
