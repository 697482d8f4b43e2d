"""The artifacts that go into the app and the tests: exported here, never committed.

INT8 is calibrated on the shared rgb brackets where they are, else on one simulated from the bundled
sample, so that a bare clone builds the app too.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from android_demo.ci.paths import OUT, SHARED
from pockethdr.brackets.exr import read_exr
from pockethdr.brackets.read import find_brackets
from pockethdr.brackets.simulate import SimulationSettings, simulate, write_bracket
from pockethdr.export.pipeline import export_model
from pockethdr.export.recipe import DEFAULT_RECIPE, named_recipe
from pockethdr.models.load import load_model

DOMAIN = "rgb"
PRECISIONS = ("fp16", "int8")
#: What the app ships.
MODEL = "dsan-m32"
TILE = 256


def export_folder(model: str = MODEL, *, size: int = TILE, recipe: str = DEFAULT_RECIPE) -> Path:
    """An export of `model` for TFLite with square tiles; cells that are there are kept."""
    kind = "" if recipe == DEFAULT_RECIPE else f"-{recipe}"
    out = OUT / "artifacts" / f"{model}-{size}{kind}"
    export_model(
        load_model(model, domain=DOMAIN, weights=None),
        targets=("tflite",),
        precisions=PRECISIONS,
        bracket_folders=_brackets(),
        out=out,
        size=(size, size),
        recipe=named_recipe(recipe),
        seed=0,
        patches=16,
        overwrite=True,
        allow_dynamic=False,
        command=f"pockethdr export {model} --domain {DOMAIN} --targets tflite --brackets …",
    )
    return out


def simulated_bracket() -> Path:
    """An rgb bracket made from the bundled sample."""
    folder = OUT / "brackets" / "simulated"
    if not folder.is_dir():
        with as_file(files("pockethdr.brackets") / "sample") as sample:
            scene = read_exr(sample / "gt_camera_rgb.exr")
        write_bracket(
            simulate(scene, SimulationSettings(domain=DOMAIN), seed=0, name=folder.name), folder
        )
    return folder


def _brackets() -> list[Path]:
    return find_brackets(SHARED, domain=DOMAIN) if SHARED.is_dir() else [simulated_bracket()]
