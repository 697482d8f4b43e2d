"""Collecting HDR images: what cannot be reached is skipped with its reason, the rest goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sources_cache import NAMES, filled

from pockethdr.brackets import gather as gathering
from pockethdr.brackets.exr import read_exr, write_exr
from pockethdr.brackets.gather import SOURCES, gather, relit
from pockethdr.brackets.invent import invented_scene
from pockethdr.brackets.sources import (
    HELD_OUT,
    INDEX,
    TEST,
    TRAIN,
    digest,
    read_index,
    scenes,
    split_of,
)
from pockethdr.brackets.testset import VIEWS, test_brackets
from pockethdr.errors import BracketError, PocketError

# pytest collects what is called test_*; this one is no test.
held_out_brackets = test_brackets
del test_brackets


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No apt-get, no npm, and few invented scenes: each takes a second."""
    monkeypatch.setattr(gathering.shutil, "which", lambda command: None)
    monkeypatch.setattr(gathering, "_INVENTED", (3, 1000))
    monkeypatch.setattr(gathering, "invented_scene", lambda seed: invented_scene(seed, 96))


@pytest.mark.usefixtures("offline")
def test_what_cannot_be_reached_is_skipped_with_its_reason(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    lines: list[str] = []
    images, skipped = gather(tmp_path / "cache", None, lines.append)
    assert set(skipped) >= {"openexr", "pixel6pro_ultrahdr", "pmndrs"}
    assert "npm" in skipped["pmndrs"]
    assert any(line.startswith("pmndrs: skipped: no npm") for line in lines)
    parts = {image.name: image.part for image in images}
    assert parts["invented_3"] == TRAIN
    assert (parts["invented_1000"], parts["scikit_image_coffee"]) == (TEST, TEST)
    assert read_index(tmp_path / "cache") == sorted(images, key=lambda image: image.name)
    assert all((image.licence, image.source, len(image.sha256) == 64) for image in images)


@pytest.mark.usefixtures("offline")
def test_images_beside_the_repository_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "brackets" / "hdrgt_openexr"
    folder.mkdir(parents=True)
    picture = np.full((64, 48, 3), 0.5, np.float32)
    picture[5, 5] = -300.0  # as lossy compression leaves beside a sun
    write_exr(folder / "Desk.exr", picture)
    gather(tmp_path / "cache", tmp_path / "brackets", lambda line: None)
    (desk,) = (i for i in read_index(tmp_path / "cache") if i.name == "openexr_Desk")
    assert (desk.part, desk.licence) == (TEST, "BSD-3-Clause")
    np.testing.assert_allclose(read_exr(tmp_path / "cache" / "openexr_Desk.exr"), 1, rtol=2e-3)


@pytest.mark.skipif(shutil.which("false") is None, reason="no `false` command")
def test_a_tool_that_fails_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(PocketError, match="`false`"):
        gathering._run(["false"], tmp_path, "nothing")


def test_every_source_says_its_licence_and_the_docs_list_it() -> None:
    docs = (Path(__file__).resolve().parents[1] / "docs" / "data.md").read_text()
    for source in SOURCES:
        assert source.licence
        assert f"`{source.name}`" in docs
    for name in HELD_OUT:
        assert split_of(name) == TEST


def test_a_cache_is_read_by_parts_and_known_by_its_hash(tmp_path: Path) -> None:
    cache = filled(tmp_path / "cache")
    train, test = scenes(cache, TRAIN), scenes(cache, TEST)
    assert not set(train) & set(test)
    assert set(train) | set(test) == set(NAMES)
    assert not set(train) & set(HELD_OUT)
    before = digest(cache, TRAIN)
    index = json.loads((cache / INDEX).read_text())
    index[-1]["sha256"] = "0" * 64
    (cache / INDEX).write_text(json.dumps(index))
    assert digest(cache, index[-1]["part"]) != before or index[-1]["part"] == TEST


def test_a_missing_or_damaged_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BracketError, match=r"cannot be read \(No such file or directory\)\n"):
        scenes(tmp_path, TRAIN)
    (tmp_path / INDEX).write_text('[{"name": "x"}]')
    with pytest.raises(BracketError, match="cannot be read"):
        scenes(tmp_path, TRAIN)
    (tmp_path / INDEX).write_text("[]")
    with pytest.raises(BracketError, match="no images to train on"):
        scenes(tmp_path, TRAIN)


def test_photographs_get_their_highlights_back() -> None:
    coded = np.array([[[10, 10, 10], [128, 128, 128], [255, 255, 255]]], np.uint8)
    linear = relit(coded, np.random.default_rng(0))
    assert linear[0, 1, 0] == pytest.approx(0.2159, abs=1e-3)
    assert 4 <= linear[0, 2, 0] <= 60


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_invented_scenes_have_range_and_texture(seed: int) -> None:
    values = invented_scene(seed, 256)[..., 1]
    assert np.isfinite(values).all()
    assert values.min() >= 0
    assert np.quantile(values, 0.999) > 50 * np.quantile(values, 0.05)
    assert np.abs(np.diff(np.log(values + 1e-3), axis=0)).mean() > 1e-3
    np.testing.assert_array_equal(values, invented_scene(seed, 256)[..., 1])


def test_the_test_set_is_large_enough_and_held_out() -> None:
    assert sum(VIEWS.values()) >= 24
    assert set(VIEWS) == set(HELD_OUT)


def test_the_test_set_is_the_same_each_time(tmp_path: Path) -> None:
    images = scenes(filled(tmp_path / "cache"), TEST)
    first, again = (list(held_out_brackets(images)) for _ in range(2))
    assert [b.name for b in first] == [f"openexr_Desk_{n}" for n in range(4)] + ["invented_1000_0"]
    for one, other in zip(first, again, strict=True):
        assert one.ground_truth is not None
        for a, b in zip(one.frames, other.frames, strict=True):
            np.testing.assert_array_equal(a.pixels, b.pixels)
    assert not np.array_equal(first[0].frames[1].pixels, first[1].frames[1].pixels)
