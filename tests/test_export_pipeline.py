"""A network and a bracket become an output folder: once, resumably, and the same each time."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

from pockethdr.brackets.read import read_bracket
from pockethdr.calibration.calibration import Calibration
from pockethdr.errors import ArtifactError, ModelError, PocketError, RefusedError
from pockethdr.export.context import Cut
from pockethdr.export.identity import network_sha256, state_sha256
from pockethdr.export.lowrank import dynamic_convolutions
from pockethdr.export.manifest import ContextRecord, Manifest, read_manifest
from pockethdr.export.materials import Materials
from pockethdr.export.pipeline import PartialExportError, export_model
from pockethdr.export.qparams import RangeError
from pockethdr.export.recipe import named_recipe
from pockethdr.export.rewrite import Proof
from pockethdr.export.static import static_program
from pockethdr.export.targets import TargetError
from pockethdr.export.tile import check_tile, least_tile
from pockethdr.files import sha256_of
from pockethdr.models.load import Loaded, load_model
from pockethdr.models.receptive import Sight
from pockethdr.runtime.tiling import tiles

FREE_KERNEL = '''
import torch
from torch import nn


class Free(nn.Module):
    """A kernel pushed through a softmax: not low-rank."""

    def __init__(self):
        super().__init__()
        self.read = nn.Conv2d(8, 24, 3, padding=1)
        self.fc = nn.Linear(24, 24 * 24 * 9)
        self.write = nn.Conv2d(24, 4, 3, padding=1)

    def forward(self, short, mid, long):
        x = self.read(short + mid + long)
        w = torch.softmax(self.fc(x.mean((2, 3))).view(24, 24, 9), -1).view(24, 24, 3, 3)
        return torch.sigmoid(self.write(torch.conv2d(x, w, padding=1)))


def build():
    torch.manual_seed(0)
    return Free()
'''

OWN = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short, mid, long):
        return torch.ACTIVATION(self.body(short + mid + long))


def build():
    torch.manual_seed(0)
    return Own()
"""

TWICE = """
import torch
from torch import nn


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short, mid, long):
        x = torch.relu(self.first(short + mid + long))
        y = torch.tanh(self.layer(x)) + torch.relu(self.layer(x))
        return torch.sigmoid(self.last(y + self.layer(y)))


def build():
    torch.manual_seed(0)
    return Twice()
"""

pytestmark = pytest.mark.filterwarnings("ignore:.*no weights")


@pytest.fixture(scope="module")
def sample() -> Path:
    return Path(str(files("pockethdr.brackets") / "sample"))


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load_model("dsan-m16", domain="raw")


def exported(loaded: Loaded, sample: Path, out: Path, **changes: Any) -> Manifest:
    settings: dict[str, Any] = {
        "targets": ("onnx",),
        "precisions": ("fp32", "int8"),
        "bracket_folders": [sample],
        "out": out,
        "size": (64, 64),
        "recipe": named_recipe("hdr"),
        "patches": 2,
    }
    return export_model(loaded, **settings | changes)


@pytest.fixture(scope="module")
def out(loaded: Loaded, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "out"
    exported(loaded, sample, folder)
    return folder


def test_the_manifest_accounts_for_every_file(out: Path) -> None:
    manifest = read_manifest(out)
    assert [(a.target, a.precision) for a in manifest.artifacts] == [
        ("onnx", "fp32"),
        ("onnx", "int8"),
    ]
    for artifact in manifest.artifacts:
        assert artifact.file
        assert sha256_of(out / artifact.file) == artifact.sha256
    assert manifest.weights
    assert manifest.calibration
    assert (manifest.multiple, manifest.channels, manifest.output_channels) == (2, 8, 4)
    assert {r["rewrite"] for r in manifest.rewrites} >= {"lowrank", "unshuffle_conv", "all"}
    assert all(r["max_relative_error"] <= 1e-10 for r in manifest.rewrites)


def test_a_second_run_builds_nothing(loaded: Loaded, sample: Path, out: Path) -> None:
    said: list[str] = []
    assert exported(loaded, sample, out, progress=said.append) == read_manifest(out)
    assert said == []


def test_a_damaged_artifact_alone_is_built_again(loaded: Loaded, sample: Path, out: Path) -> None:
    before = read_manifest(out)
    damaged = out / str(before.artifacts[1].file)
    damaged.write_bytes(damaged.read_bytes()[:-1])
    said: list[str] = []
    after = exported(loaded, sample, out, progress=said.append)
    assert [s for s in said if s.startswith("building")] == ["building onnx int8"]
    assert not any(s.startswith("calibrating") for s in said)
    assert after.artifacts == before.artifacts  # the same bytes as before


def test_other_settings_need_overwrite(loaded: Loaded, sample: Path, out: Path) -> None:
    before = read_manifest(out)
    with pytest.raises(ArtifactError, match="other settings"):
        exported(loaded, sample, out, recipe=named_recipe("full"))
    assert read_manifest(out) == before


def test_a_killed_overwrite_is_finished_by_the_next_run(
    loaded: Loaded, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first artifact is there, and so is the old manifest."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    out, other = tmp_path / "o", {"recipe": named_recipe("full")}
    exported(loaded, sample, out)
    monkeypatch.setattr("pockethdr.export.materials.quantized", killed)
    with pytest.raises(KeyboardInterrupt):
        exported(loaded, sample, out, overwrite=True, **other)
    assert read_manifest(out).recipe["name"] == "hdr"
    monkeypatch.undo()
    assert exported(loaded, sample, out, **other).recipe["name"] == "full"


@pytest.mark.parametrize("damage", ["{}", "[]", "nothing"])
def test_overwrite_mends_a_damaged_manifest(
    loaded: Loaded, sample: Path, tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "o"
    made = exported(loaded, sample, out, precisions=("fp32",))
    (out / "manifest.json").write_text(damage)
    (out / ".cache" / "cells.json").write_text(damage)
    with pytest.raises(ArtifactError, match="export again with --overwrite"):
        exported(loaded, sample, out, precisions=("fp32",))
    assert exported(loaded, sample, out, precisions=("fp32",), overwrite=True) == made


def test_a_network_that_was_edited_is_exported_anew(sample: Path, tmp_path: Path) -> None:
    """Its weights are the same, and so is its name."""

    def edition(number: int, activation: str) -> Loaded:
        file = tmp_path / str(number) / "net.py"
        file.parent.mkdir()
        file.write_text(OWN.replace("ACTIVATION", activation))
        return replace(load_model(f"{file}:build", domain="raw"), spec="net.py:build")

    settings: dict[str, Any] = {"precisions": ("fp32",)}
    first = exported(edition(1, "sigmoid"), sample, tmp_path / "o", **settings)
    assert exported(edition(2, "sigmoid"), sample, tmp_path / "o", **settings) == first
    with pytest.raises(ArtifactError, match="other settings"):
        exported(edition(3, "relu"), sample, tmp_path / "o", **settings)


HELD = """
import torch
from torch import nn


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Conv2d(8, 4, 3, padding=1)
        HOLD

    def forward(self, short, mid, long):
        return torch.sigmoid(self.body(short + mid + long) * GAIN)


def build():
    torch.manual_seed(0)
    return Held()
"""


@pytest.mark.parametrize(
    ("hold", "gain"),
    [
        ("self.register_buffer('gain', torch.full((1, 4, 1, 1), VALUE))", "self.gain"),
        (
            "self.register_buffer('gain', torch.full((1, 4, 1, 1), VALUE), persistent=False)",
            "self.gain",
        ),
        ("self.gain = torch.full((1, 4, 1, 1), VALUE)", "self.gain"),
        ("pass", "torch.full((1, 4, 1, 1), VALUE)"),
        ("pass", "VALUE"),
    ],
)
def test_whatever_a_network_multiplies_by_is_part_of_it(
    tmp_path: Path, hold: str, gain: str
) -> None:
    """Its state knows the first of these alone."""
    code = HELD.replace("HOLD", hold).replace("GAIN", gain)
    whole, held = [], []
    for number, value in enumerate(("0.25", "0.25", "4.0")):
        file = tmp_path / str(number) / "held.py"
        file.parent.mkdir()
        file.write_text(code.replace("VALUE", value))
        module = replace(load_model(f"{file}:build", domain="raw"), spec="held.py:build")
        whole.append(network_sha256(module, (64, 64)))
        held.append(state_sha256(module))
    assert whole[0] == whole[1] != whole[2]
    assert held[0] == held[1]
    assert (held[1] != held[2]) == (gain == "self.gain")


def test_other_targets_and_precisions_are_added(
    loaded: Loaded, sample: Path, tmp_path: Path
) -> None:
    """What an earlier run of the same settings made stays in the manifest, its calibration too."""
    out = tmp_path / "o"
    first = exported(loaded, sample, out, precisions=("int8",))
    second = exported(loaded, sample, out, precisions=("fp32",))
    assert [a.precision for a in second.artifacts] == ["fp32", "int8"]
    assert second.artifacts[1:] == first.artifacts
    assert second.calibration == first.calibration
    assert exported(loaded, sample, out, precisions=("int8",)) == second  # nothing is left to do
    (out / str(first.artifacts[0].file)).write_bytes(b"")
    third = exported(loaded, sample, out, targets=("onnx", "coreml"), precisions=("fp32",))
    assert [(a.target, a.precision) for a in third.artifacts] == [
        ("onnx", "fp32"),
        ("coreml", "fp32"),
    ]


@pytest.mark.parametrize(
    ("name", "precision"), [("weights.safetensors", "fp32"), ("calibration.json", "int8")]
)
def test_files_that_no_export_made_are_spared(
    loaded: Loaded, sample: Path, tmp_path: Path, name: str, precision: str
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(ArtifactError, match=f"holds {name} that no export has written"):
        exported(loaded, sample, tmp_path, precisions=(precision,))
    assert (tmp_path / name).read_bytes() == b"mine"
    exported(loaded, sample, tmp_path, precisions=(precision,), overwrite=True)
    assert (tmp_path / name).read_bytes() != b"mine"


def test_a_calibration_beside_the_given_one_is_spared(
    loaded: Loaded, sample: Path, tmp_path: Path
) -> None:
    given = exported(loaded, sample, tmp_path / "first", precisions=("int8",)).calibration
    assert given is not None
    calibration = Calibration.load(tmp_path / "first" / given.file)
    out = tmp_path / "o"
    out.mkdir()
    (out / "calibration.json").write_bytes(b"mine")
    with pytest.raises(ArtifactError, match=r"holds calibration\.json that no export has written"):
        exported(loaded, sample, out, precisions=("int8",), calibration=calibration)
    assert (out / "calibration.json").read_bytes() == b"mine"
    calibration.save(out / "calibration.json", overwrite=True)  # of `pockethdr calibrate`
    assert exported(loaded, sample, out, precisions=("int8",), calibration=calibration).artifacts


def test_precisions_that_do_not_exist(loaded: Loaded, sample: Path, tmp_path: Path) -> None:
    with pytest.raises(PocketError, match="no precision is called fp61, in8") as refused:
        exported(loaded, sample, tmp_path / "o", precisions=("fp32", "in8", "fp61"))
    assert refused.value.expected == "fp32, fp16, int8, dynint8"


def test_what_was_allowed_once_is_not_allowed_for_ever(sample: Path, tmp_path: Path) -> None:
    (tmp_path / "free.py").write_text(FREE_KERNEL)
    free = load_model(f"{tmp_path / 'free.py'}:build", domain="raw")
    exported(free, sample, tmp_path / "o", precisions=("fp32",), allow_dynamic=True)
    with pytest.raises(PocketError, match="other settings"):
        exported(free, sample, tmp_path / "o", precisions=("fp32",))
    with pytest.raises(RefusedError):
        exported(free, sample, tmp_path / "o", precisions=("fp32",), overwrite=True)


def test_what_cannot_be_built_here_is_skipped_with_its_install_line(
    loaded: Loaded, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = __import__("importlib.util").util.find_spec
    missing = {"onnx", "onnxscript"}
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name in missing else real(name, *a)
    )
    (artifact,) = exported(loaded, sample, tmp_path / "o", precisions=("fp32",)).artifacts
    assert artifact.file is None
    assert artifact.skipped
    assert "onnx is not installed; pip install" in artifact.skipped


def test_int8_without_a_range_costs_no_float_artifact(
    loaded: Loaded, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise RangeError("no calibrated range for `mul`")

    monkeypatch.setattr(Materials, "quantized", missing)
    with pytest.raises(PartialExportError, match="onnx int8: no calibrated range") as error:
        exported(loaded, sample, tmp_path / "o", precisions=("fp32", "int8"))
    fp32, int8 = error.value.manifest.artifacts
    assert fp32.file
    assert (int8.file, int8.skipped) == (None, "no calibrated range for `mul`")


def test_a_target_that_refuses_the_network_does_not_stop_the_others(
    loaded: Loaded, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> dict[str, Any]:
        raise TargetError("does not take this program", expected="another", fix="leave it out")

    settings = {"targets": ("coreml", "onnx"), "precisions": ("fp16",)}
    with monkeypatch.context() as patched:
        patched.setattr("pockethdr.export.coreml.build", refused)
        match = "coreml fp16: does not take this program"
        with pytest.raises(PartialExportError, match=match) as error:
            exported(loaded, sample, tmp_path / "o", **settings)
        assert error.value.fix == "leave it out"
        assert error.value.manifest == read_manifest(tmp_path / "o")
        coreml, onnx = read_manifest(tmp_path / "o").artifacts
        assert (coreml.file, coreml.skipped) == (None, "does not take this program")
        assert onnx.file
        with pytest.raises(TargetError):  # it is tried again, and where no other is left, said so
            exported(loaded, sample, tmp_path / "p", **settings | {"targets": ("coreml",)})
        assert not (tmp_path / "p" / "manifest.json").exists()
    again = exported(loaded, sample, tmp_path / "o", **settings)
    assert all(artifact.file for artifact in again.artifacts)


def test_no_pair_of_target_and_precision(loaded: Loaded, sample: Path, tmp_path: Path) -> None:
    with pytest.raises(PocketError, match="no target"):
        exported(loaded, sample, tmp_path / "o", targets=("tensorrt",), precisions=("fp32",))
    assert not (tmp_path / "o").exists()


def test_no_bracket(loaded: Loaded, sample: Path, tmp_path: Path) -> None:
    with pytest.raises(PocketError, match="no bracket"):
        exported(loaded, sample, tmp_path / "o", bracket_folders=())
    assert not (tmp_path / "o").exists()


def test_a_size_that_the_network_does_not_take(loaded: Loaded, sample: Path) -> None:
    with pytest.raises(ModelError, match="multiple of 2"):
        static_program(loaded, size=(65, 64), bracket=read_bracket(sample))


@pytest.mark.parametrize(
    ("name", "least"),
    [("ahdrnet-mobile", 174), ("deephdr-mobile", 200), ("deephdr-paper", 360)],
)
def test_a_tile_that_is_all_halo_is_refused_before_the_work(
    name: str, least: int, sample: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    large = load_model(name, domain="raw")
    with pytest.raises(PocketError, match=rf"--size {least}x800") as refused:
        exported(large, sample, tmp_path / "o", size=(16, 800), progress=said.append)
    assert refused.value.expected == f"at least {least}x{least}"
    assert said == []
    assert not (tmp_path / "o").exists()


def test_the_least_tile_that_export_takes_is_the_least_that_tiles() -> None:
    for halo, multiple in [(0, 1), (3, 1), (5, 2), (6, 4), (26, 2), (174, 8)]:
        least = least_tile(halo, multiple)
        check_tile("net", (least, least), halo, multiple)
        assert len(tiles((2 * least, least), (least, least), halo, multiple)) > 1
        with pytest.raises(PocketError, match="too small"):
            check_tile("net", (least, least - multiple), halo, multiple)
        if least > multiple:
            with pytest.raises(PocketError, match=f"at least {least}"):
                tiles((2 * least, least), (least - multiple, least), halo, multiple)


def test_a_cut_network_is_held_to_the_halo_of_its_tiles(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is known only once it is cut."""
    cut = Cut(ContextRecord(1, ()), Sight(40, 2), Proof("context", "", "", "", 0.0))
    monkeypatch.setattr("pockethdr.export.materials.find_cut", lambda *_: cut)
    monkeypatch.setattr("pockethdr.export.materials.sight_of", lambda *_: Sight(None, 2))
    whole = load_model("dsan-m16-global", domain="raw")
    with pytest.raises(PocketError, match="at least 82x82"):
        exported(whole, sample, tmp_path / "o", precisions=("fp32",))
    assert not (tmp_path / "o").exists()


def test_a_calibration_serves_every_size(
    loaded: Loaded, sample: Path, out: Path, tmp_path: Path
) -> None:
    known = Calibration.load(out / "calibration.json")
    said: list[str] = []
    other = {"size": (80, 64), "precisions": ("int8",), "progress": said.append}
    (artifact,) = exported(loaded, sample, tmp_path / "o", calibration=known, **other).artifacts
    assert artifact.checks["ranges"]["foreign"] == []
    assert not any("calibrating" in sentence for sentence in said)
    assert (tmp_path / "o/calibration.json").read_bytes() == (out / "calibration.json").read_bytes()


def test_the_calibration_of_another_network_is_refused(
    loaded: Loaded, sample: Path, out: Path, tmp_path: Path
) -> None:
    known = Calibration.load(out / "calibration.json")
    strange = replace(known, tensors={"of_another": next(iter(known.tensors.values()))})
    heavier = replace(known, values_sha256="0" * 64)
    for other, said in ((strange, "of_another"), (heavier, "other weights")):
        with pytest.raises(PocketError, match=said):
            exported(loaded, sample, tmp_path / "o", calibration=other, precisions=("int8",))
    assert not (tmp_path / "o" / "manifest.json").exists()


def test_a_free_kernel_stops_the_export_unless_allowed(tmp_path: Path, sample: Path) -> None:
    (tmp_path / "free.py").write_text(FREE_KERNEL)
    free = load_model(f"{tmp_path / 'free.py'}:build", domain="raw")
    with pytest.raises(RefusedError, match=r"conv2d_1 +aten.conv2d +free.py:18 .*softmax"):
        exported(free, sample, tmp_path / "o")
    assert not (tmp_path / "o" / "manifest.json").exists()
    done = static_program(free, size=(64, 64), allow_dynamic=True)
    assert [node.name for node in dynamic_convolutions(done.program)] == ["conv2d_1"]
    assert done.refusals


def test_proofs_run_on_random_frames_and_on_the_bracket(loaded: Loaded, sample: Path) -> None:
    bracket = read_bracket(sample)
    done = static_program(loaded, size=(96, 96), bracket=bracket)
    places = [p for p in done.proofs if p.rewrite == "lowrank"]
    assert {p.module for p in places} == {"filter_short", "filter_long"}
    assert [p.place for p in done.proofs].count("output") == 2  # proved small, and as a whole
    frames = tuple(torch.from_numpy(x[:, :, :96, :96].copy()) for x in bracket.inputs())
    with torch.no_grad():
        torch.testing.assert_close(
            done.program(*frames), loaded.module(*frames), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("target", ["onnx", "tflite", "coreml"])
def test_a_layer_that_is_called_twice_on_one_tensor_is_built_once(
    target: str, sample: Path, tmp_path: Path
) -> None:
    """Converters merge it; two scales behind it made LiteRT's leave it float."""
    (tmp_path / "twice.py").write_text(TWICE)
    twice = load_model(f"{tmp_path / 'twice.py'}:build", domain="raw")
    made = exported(twice, sample, tmp_path / "out", targets=(target,), precisions=("int8",))
    assert [r["place"] for r in made.rewrites if r["rewrite"] == "merge_duplicates"] == ["conv2d_2"]
    checks = made.artifacts[0].checks
    assert (checks["ranges"]["foreign"], checks["ranges"]["missing"]) == ([], [])
    assert len(checks["given"]["kernels"]) == 2  # of one layer, on two tensors
    assert checks["int8_mac_share"] == pytest.approx(checks["planned_int8_mac_share"])
