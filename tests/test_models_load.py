"""MODEL arguments: zoo names and factories, and the contract each must keep."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from pockethdr.errors import ModelError, WeightsError
from pockethdr.models import zoo
from pockethdr.models.load import example_frames, load_model
from pockethdr.models.weights import save_weights

_OWN = """
import torch

class Net(torch.nn.Module):
    def __init__(self, channels=4, out=4, stride=1):
        super().__init__()
        self.conv = torch.nn.Conv2d(3 * 2 * channels, out, 3, padding=1, stride=stride)

    def forward(self, short, mid, long):
        return torch.sigmoid(self.conv(torch.cat([short, mid, long], 1)))

class Broken(Net):
    def forward(self, short, mid, long):
        raise RuntimeError("no kernel for this")

class NotFinite(Net):
    def forward(self, short, mid, long):
        return mid[:, :4] / 0

class Pair(Net):
    def forward(self, short, mid, long):
        return short, mid

good = Net
def rgb(): return Net(channels=3, out=3)
def small(): return Net(stride=2)
def raw_as_rgb(): return Net(out=3)
def double(): return Net().double()
def nothing(): return None
def wants(width): return Net()
def fails(): raise ValueError("no config found")
number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my_own_net.py"
    path.write_text(_OWN)
    monkeypatch.chdir(tmp_path)
    return path


def test_values_that_a_factory_draws_are_named(own: Path, tmp_path: Path) -> None:
    own.write_text(_OWN + "def seeded():\n    torch.manual_seed(1)\n    return Net()\n")
    with pytest.warns(UserWarning, match="values are random, and differ from call to call"):
        loaded = load_model("my_own_net.py:good", domain="raw")
    weights = tmp_path / "weights.safetensors"
    save_weights(weights, loaded.module, {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model("my_own_net.py:seeded", domain="raw")
        load_model("my_own_net.py:good", domain="raw", weights=weights)


@pytest.mark.filterwarnings("ignore:dsan-m16")
def test_a_zoo_network_without_weights_is_seeded_and_says_so() -> None:
    with pytest.warns(UserWarning, match="random"):
        first = load_model("dsan-m16-grid", domain="raw")
    again = load_model("dsan-m16-grid", domain="raw", weights=None)
    frames = example_frames("raw", 16, 16)
    assert torch.equal(first.module(*frames), again.module(*frames))
    assert (first.name, first.spec, first.domain) == ("dsan-m16-grid", "dsan-m16-grid", "raw")
    assert (first.weights, first.weights_sha256) == (None, None)
    assert not first.module.training


def test_weights_are_loaded_and_hashed(tmp_path: Path) -> None:
    torch.manual_seed(5)
    trained = zoo.build("dsan-m16", "raw")
    path = tmp_path / "w.safetensors"
    save_weights(path, trained, {"domain": "raw"})
    loaded = load_model("dsan-m16", domain="raw", weights=path)
    frames = example_frames("raw", 16, 16)
    assert torch.equal(loaded.module(*frames), trained(*frames))
    assert loaded.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.header == {"domain": "raw"}
    with pytest.raises(WeightsError, match="another size"):
        load_model("dsan-m24", domain="raw", weights=path)
    with pytest.raises(ModelError, match="weights for raw"):
        load_model("dsan-m16", domain="rgb", weights=path)


@pytest.mark.parametrize("name", ["dsan-m32-raw", "dsan-m32-rgb"])
def test_shipped_weights_are_found_by_themselves(name: str) -> None:
    path = zoo.WEIGHTS / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"{name} is not shipped")
    model, _, domain = name.rpartition("-")
    assert load_model(model, domain=domain).weights == path
    # The pixel form may have weights of its own, of the budget that docs/results.md compares at.
    own = zoo.WEIGHTS / f"{model}-pixel-{domain}.safetensors"
    assert load_model(f"{model}-pixel", domain=domain).weights == (own if own.exists() else path)


@pytest.mark.parametrize("spec", ["my_own_net.py:good", "my_own_net:good", "{path}:good"])
def test_own_networks_load_by_file_and_by_module(spec: str, own: Path) -> None:
    loaded = load_model(spec.format(path=own), domain="raw")
    assert loaded.name == "my_own_net-good"
    assert loaded.module(*example_frames("raw", 8, 8)).shape == (1, 4, 8, 8)
    assert load_model("my_own_net.py:rgb", domain="rgb").domain == "rgb"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("my_own_net.py:small", r"returned \(1, 4, 32, 32\)"),
        ("my_own_net.py:raw_as_rgb", r"returned \(1, 3, 64, 64\)"),
        ("my_own_net.py:rgb", r"RuntimeError: .* \(my_own_net.py:10\)\n"),
        ("my_own_net.py:double", "RuntimeError"),
        ("my_own_net.py:Broken", r"no kernel for this \(my_own_net.py:14\)"),
        ("my_own_net.py:NotFinite", "NaN or infinity"),
        ("my_own_net.py:Pair", "returned tuple"),
        ("my_own_net.py:nothing", "returned NoneType"),
        ("my_own_net.py:fails", "no config found"),
        ("my_own_net.py:wants", "argument: 'width'\n"),
        ("my_own_net.py:number", "no callable 'number'"),
        ("my_own_net.py:absent", "no callable 'absent'"),
        ("absent.py:good", "no such file in /"),
        ("absent_package.net:good", "no module named"),
        ("dsan-m23", "no network is called(.|\n)*did you mean .*dsan-m24"),
    ],
)
def test_what_breaks_the_contract_is_said(spec: str, says: str, own: Path) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        load_model(spec, domain="raw")
    assert caught.value.expected


def test_a_file_that_own_code_misses_is_not_said_to_be_the_code(own: Path) -> None:
    own.write_text("open('checkpoint.pt')")
    with pytest.raises(ModelError, match=r"'checkpoint\.pt' \(my_own_net\.py:1\)"):
        load_model("my_own_net.py:good", domain="raw")


def test_syntax_errors_in_own_files_are_reported(own: Path) -> None:
    own.write_text("def good(:\n")
    with pytest.raises(ModelError, match="SyntaxError"):
        load_model("my_own_net.py:good", domain="raw")


def test_unknown_domain() -> None:
    with pytest.raises(ModelError, match="unknown domain"):
        load_model("dsan-m16", domain="yuv")


def test_weights_of_other_switches_are_refused(tmp_path: Path) -> None:
    """The square root on the inputs changes no shape, and everything else."""
    network = zoo.build("dsan-m16", "raw")
    path = tmp_path / "linear.safetensors"
    switches = {**asdict(network.config), "input_coding": "linear"}
    save_weights(path, network, {"domain": "raw", "config": switches})
    with pytest.raises(WeightsError, match="input_coding = 'linear', not 'sqrt'"):
        load_model("dsan-m16", domain="raw", weights=path)
