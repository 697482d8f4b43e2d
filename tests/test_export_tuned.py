"""Tuned weights ship beside the float ones, are used for INT8 alone, and only where they fit."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import export_toy as nets
import numpy as np
import pytest
import torch
from sources_cache import filled
from torch import fx

from pockethdr.errors import PocketError, WeightsError
from pockethdr.export import finetune as finetuning
from pockethdr.export import finetune_state
from pockethdr.export.finetune import FinetuneConfig, finetune
from pockethdr.export.pipeline import export_model
from pockethdr.export.program import constants_of_size
from pockethdr.export.recipe import RECIPES, named_recipe
from pockethdr.export.static import static_program
from pockethdr.export.tuned import Tuned, chosen_recipe, read_tuned
from pockethdr.files import sha256_of
from pockethdr.models import zoo
from pockethdr.models.load import Loaded, example_frames, load_model
from pockethdr.models.weights import read_header
from pockethdr.runtime.runner import open_runner

RECIPE = RECIPES["tuned"]


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield load_model("dsan-m16", domain="raw")


# Steps this small stay near the float network even when there are few of them.
CONFIG = FinetuneConfig(steps=6, batch=2, patch=64, warmup=2, threads=1, lr=1e-5)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sources") / "cache")


def _tuned(loaded: Loaded, sources: Path, out: Path) -> Tuned:
    return finetune(
        loaded, sources=sources, recipe=RECIPE, out=out, config=CONFIG, log=lambda _: None
    )


@pytest.fixture(scope="module")
def tuned(loaded: Loaded, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    out = tmp_path_factory.mktemp("tuned") / "dsan-m16-raw-int8.safetensors"
    return _tuned(loaded, sources, out)


def test_a_run_is_the_same_each_time(
    loaded: Loaded, tuned: Tuned, sources: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.safetensors"
    _tuned(loaded, sources, again)
    assert again.read_bytes() == tuned.path.read_bytes()


class _Cut(Exception):
    pass


def test_a_run_cut_off_ends_with_the_same_file(
    loaded: Loaded, tuned: Tuned, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune_state, "_EVERY_SECONDS", 0)
    step = finetuning._Run._step

    def cut(run: Any, optimiser: Any, at: int) -> float:
        if at == 4:
            raise _Cut
        return step(run, optimiser, at)

    out = tmp_path / "cut.safetensors"
    monkeypatch.setattr(finetuning._Run, "_step", cut)
    with pytest.raises(_Cut):
        _tuned(loaded, sources, out)
    monkeypatch.setattr(finetuning._Run, "_step", step)
    with pytest.raises(PocketError, match="cut off"):
        _tuned(loaded, sources, out)
    other = replace(CONFIG, lr=1e-4)
    with pytest.raises(PocketError, match="a run with other settings"):
        finetune(loaded, sources=sources, recipe=RECIPE, out=out, config=other, resume=True)
    assert not out.exists()
    finetune(loaded, sources=sources, recipe=RECIPE, out=out, config=CONFIG, resume=True)
    assert out.read_bytes() == tuned.path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    with pytest.raises(PocketError, match="nothing to resume"):
        finetune(loaded, sources=sources, recipe=RECIPE, out=out, config=CONFIG, resume=True)
    with pytest.raises(PocketError, match="exists"):
        finetune(loaded, sources=sources, recipe=RECIPE, out=out, config=CONFIG)


def test_a_run_goes_on_from_another(
    loaded: Loaded, tuned: Tuned, sources: Path, tmp_path: Path
) -> None:
    still, further = (replace(CONFIG, seed=1, steps=1, lr=lr) for lr in (1e-30, 1e-4))
    said: list[str] = []
    runs = [
        finetune(
            loaded,
            sources=sources,
            recipe=RECIPE,
            out=tmp_path / f"{name}.safetensors",
            config=config,
            init=tuned,
            log=said.append,
        )
        for name, config in (("still", still), ("further", further))
    ]
    still_, further_, before = (np.array([*t.ranges.values()]) for t in (*runs, tuned))
    np.testing.assert_allclose(still_, before, rtol=1e-5)
    assert not np.allclose(further_, before, rtol=1e-5)
    assert read_header(runs[1].path)["training"]["init_sha256"] == sha256_of(tuned.path)


def test_a_run_does_not_go_on_from_that_of_another_network(
    tuned: Tuned, sources: Path, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = load_model("dsan-m16-global", domain="raw")
    with pytest.raises(WeightsError, match="tuned from other weights"):
        finetune(
            other,
            sources=sources,
            recipe=RECIPE,
            out=tmp_path / "never.safetensors",
            config=CONFIG,
            init=tuned,
        )
    assert not list(tmp_path.iterdir())


def test_a_run_that_diverges_says_so(
    loaded: Loaded, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "mu_law", lambda x: x * torch.inf)
    with pytest.raises(PocketError, match="gradient of step 1 "):
        _tuned(loaded, sources, tmp_path / "never.safetensors")
    assert not list(tmp_path.iterdir())


def test_it_fits_the_program_of_any_size(loaded: Loaded, tuned: Tuned) -> None:
    before = static_program(loaded, size=(96, 64)).program
    after = tuned.program(before)
    assert_tuned(after, before, (96, 64))


def test_a_graph_that_holds_one_image_is_tuned_image_by_image(
    sources: Path, tmp_path: Path
) -> None:
    nhdrrnet = load_model("nhdrrnet-mobile", domain="raw")
    config = replace(CONFIG, steps=2)
    found = finetune(
        nhdrrnet, sources=sources, recipe=RECIPE, out=tmp_path / "n.safetensors", config=config
    )
    # Pooling a frame of 96 to a grid of 16 takes constants that the tuned program had no use for.
    before = static_program(nhdrrnet, size=(96, 96)).program
    assert constants_of_size(before)
    assert_tuned(found.program(before), before, (96, 96))


def assert_tuned(after: fx.GraphModule, before: fx.GraphModule, size: tuple[int, int]) -> None:
    """Other weights, of the same network: a few steps move it only a little."""
    frames = example_frames("raw", *size)
    changed, was = nets.run(after, frames), nets.run(before, frames)
    assert 30 < nets.psnr(changed, was) < 200


def test_it_is_refused_for_another_network_or_recipe(loaded: Loaded, tuned: Tuned) -> None:
    assert chosen_recipe(loaded, None, tuned.path) == (RECIPE, tuned)
    with pytest.raises(WeightsError, match="tuned for the recipe `tuned`"):
        chosen_recipe(loaded, named_recipe("full"), tuned.path)
    trained_on = replace(loaded, module=torch.nn.Linear(1, 1))
    with pytest.raises(WeightsError, match="tuned from other weights"):
        chosen_recipe(trained_on, None, tuned.path)
    with pytest.raises(WeightsError, match="no such file"):
        read_tuned(tuned.path.with_name("none.safetensors"))


def test_export_refuses_it_for_another_network_too(
    loaded: Loaded, tuned: Tuned, tmp_path: Path
) -> None:
    """It was put in silence in place of a network with tensors of the same shapes."""
    torch.manual_seed(1)
    other = replace(loaded, module=zoo.build("dsan-m16", "raw"))
    with pytest.raises(WeightsError, match="tuned from other weights"):
        export_model(
            other,
            targets=["onnx"],
            precisions=["int8"],
            bracket_folders=[Path(str(files("pockethdr.brackets") / "sample"))],
            out=tmp_path / "o",
            size=(64, 64),
            tuned=tuned,
        )
    assert not (tmp_path / "o").exists()


class _Mean(torch.nn.Module):
    """Takes several images for one: its gain is of all pixels that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(24, 4, 3, padding=1)

    def forward(self, short: Any, mid: Any, long: Any) -> Any:
        return torch.sigmoid(self.conv(torch.cat([short, mid, long], 1)) * (1 + mid.mean()))


def test_images_that_would_be_mixed_are_tuned_image_by_image(sources: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, seen = _Mean().eval(), list[int]()
    module.register_forward_pre_hook(lambda _, frames: seen.append(len(frames[0])))
    finetune(
        Loaded("mean", "mean", "raw", module, None, None),
        sources=sources,
        recipe=RECIPES["all-but-last"],
        out=tmp_path / "mean",
        config=CONFIG,
        log=lambda _: None,
    )
    assert set(seen) == {1}


def test_a_program_that_is_rewritten_otherwise_is_not_filled(tuned: Tuned) -> None:
    before = static_program(load_model("dsan-m32", domain="raw"), size=(64, 64)).program
    with pytest.raises(WeightsError, match="another form of this network") as refused:
        tuned.program(before)
    assert "pockethdr finetune again" in refused.value.fix


def test_float_weights_are_no_tuned_ones() -> None:
    shipped = load_model("dsan-m32", domain="raw")
    assert shipped.weights
    with pytest.raises(WeightsError, match="float weights"):
        read_tuned(shipped.weights)


def test_what_ships_belongs_to_the_weights_that_ship() -> None:
    shipped = load_model("dsan-m32", domain="raw")
    recipe, tuned = chosen_recipe(shipped, None, None)
    assert recipe == named_recipe("tuned")
    assert tuned is not None
    assert tuned.path.name == "dsan-m32-raw-int8.safetensors"


def test_a_network_without_one_keeps_the_careful_recipe() -> None:
    with pytest.warns(UserWarning, match="no weights"):
        loaded = load_model("dsan-m24", domain="raw")
    assert chosen_recipe(loaded, None, None) == (named_recipe("hdr"), None)
    assert chosen_recipe(loaded, RECIPES["full"], None) == (RECIPES["full"], None)


def test_export_uses_it_for_int8_alone(loaded: Loaded, tuned: Tuned, tmp_path: Path) -> None:
    sample = Path(str(files("pockethdr.brackets") / "sample"))
    common = {
        "targets": ("onnx",), "precisions": ("fp32", "int8"), "bracket_folders": [sample],
        "size": (64, 64), "recipe": tuned.recipe, "patches": 2,
    }  # fmt: skip
    plain = export_model(loaded, out=tmp_path / "a", **common)  # type: ignore[arg-type]
    with_tuned = export_model(loaded, out=tmp_path / "b", tuned=tuned, **common)  # type: ignore[arg-type]
    (fp32, int8), (fp32_tuned, int8_tuned) = plain.artifacts, with_tuned.artifacts
    assert fp32.sha256 == fp32_tuned.sha256
    assert int8.sha256 != int8_tuned.sha256
    assert plain.tuned is None
    assert with_tuned.tuned
    assert with_tuned.tuned["file"] == tuned.path.name
    assert int8_tuned.checks["int8_mac_share"] > 0.9
    assert open_runner(tmp_path / "b" / str(int8_tuned.file), "onnx").shape == (1, 8, 64, 64)


def test_recipes_refuse_gains_that_are_none() -> None:
    with pytest.raises(PocketError, match="input_gains"):
        replace(RECIPE, input_gains=(1.0, -2.0, 4.0))
