"""`pockethdr debug` names the layer that is broken, in the table, the picture and the file."""

import json
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import context_toy
import numpy as np
import pytest
from click.testing import CliRunner, Result
from judged_toy import NETWORK, Exported

from pockethdr.cli import main
from pockethdr.export.pipeline import export_model
from pockethdr.export.recipe import named_recipe
from pockethdr.models.load import load_model
from pockethdr.report.layers import debug

SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))
PLAIN, RESIDUAL = "torch.sigmoid(self.last(x))", "mid[:, 4:] + 0.1 * self.last(x) - 0.02"
ADDING = f"""{NETWORK.replace(PLAIN, f"torch.clamp({RESIDUAL}, 0, 1)")}
def build():
    torch.manual_seed(0)
    return Net()
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    made = Exported(tmp_path_factory.mktemp("out"))
    made.add("scaled.onnx", lambda tensor: tensor * np.float32(1.02), precision="fp16")
    made.add("swapped.onnx", lambda tensor: tensor[::-1].copy(), precision="int8")
    made.write()
    return made


def debugged(out: Path, precision: str, *more: object) -> Result:
    arguments = ["debug", out, "--target", "onnx", "--precision", precision, "--brackets", SAMPLE]
    return CliRunner().invoke(main, [str(a) for a in (*arguments, "--max-patches", 2, *more)])


@pytest.mark.parametrize(
    ("precision", "own"), [("fp32", (80, 201)), ("fp16", (33.9, 34.1)), ("int8", (-20, 10))]
)
def test_the_broken_layer_comes_first(
    exported: Exported, tmp_path: Path, precision: str, own: tuple[float, float]
) -> None:
    file = tmp_path / "layers.json"
    result = debugged(exported.out, precision, "--json", file)
    assert result.exit_code == 0, result.output
    layers = {layer["node"]: layer for layer in json.loads(file.read_text())["layers"]}
    last = next(layer for layer in layers.values() if layer["module"] == "last")
    assert own[0] < last["own_db"] < own[1]
    others = [layer["own_db"] for layer in layers.values() if layer is not last]
    assert min(others) > 80  # what lies behind it computes rightly on wrong inputs
    if precision != "fp32":
        assert result.stdout.splitlines()[1].startswith("last")
    ElementTree.parse(exported.out / f"debug_onnx_{precision}.svg")


def test_what_is_not_there_is_refused(exported: Exported) -> None:
    result = CliRunner().invoke(
        main, ["debug", str(exported.out), "--target", "tflite", "--brackets", str(SAMPLE)]
    )
    assert result.exit_code == 2
    assert "no tflite int8 artifact" in result.output
    assert "onnx int8" in result.output


@pytest.mark.parametrize(("target", "precision"), [("onnx", "fp32"), ("coreml", "fp16")])
def test_a_residual_is_not_taken_for_its_input(tmp_path: Path, target: str, precision: str) -> None:
    (tmp_path / "net.py").write_text(ADDING)
    export_model(
        load_model(f"{tmp_path / 'net.py'}:build", domain="raw"),
        targets=(target,),
        precisions=(precision,),
        bracket_folders=[SAMPLE],
        out=tmp_path / "out",
        size=(64, 64),
        recipe=named_recipe("hdr"),
    )
    found = debug(tmp_path / "out", [SAMPLE], target=target, precision=precision)
    assert "clamp" in {layer.node for layer in found.layers}
    assert min(layer.own_db for layer in found.layers) > 60


def test_a_context_in_codes_is_fed_in_codes(tmp_path: Path) -> None:
    with context_toy.small_traces():
        context_toy.exported(tmp_path)
        found = debug(tmp_path / "out", [SAMPLE], target="tflite", patches=1)
    assert found.layers
    assert all(layer.own_db > 20 for layer in found.layers)
