"""Published AHDRNet checkpoints become weights of ours, and nothing else does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from pockethdr.errors import WeightsError
from pockethdr.models.load import example_frames, load_model
from pockethdr.models.published import import_weights
from pockethdr.models.weights import read_header

State = dict[str, Tensor]


def _published(planes: int = 6, output_planes: int = 3, features: int = 64) -> State:
    """A state dict of the published layout with random values, in the order of its code."""
    torch.manual_seed(0)
    layers = {
        "conv1": (planes, features, 3),
        "conv2": (3 * features, features, 3),
        "att11": (2 * features, 2 * features, 3),
        "att12": (2 * features, features, 3),
        "attConv1": (features, features, 3),
        "att31": (2 * features, 2 * features, 3),
        "att32": (2 * features, features, 3),
        "attConv3": (features, features, 3),
    }
    for block in (1, 2, 3):
        for n in range(6):
            layers[f"RDB{block}.dense_layers.{n}.conv"] = (features + 32 * n, 32, 3)
        layers[f"RDB{block}.conv_1x1"] = (features + 192, features, 1)
    layers |= {
        "GFF_1x1": (3 * features, features, 1),
        "GFF_3x3": (features, features, 3),
        "conv_up": (features, features, 3),
        "conv3": (features, output_planes, 3),
    }
    state = State()
    for name, (channels, out_channels, kernel) in layers.items():
        fan_in = channels * kernel**2
        state[f"{name}.weight"] = torch.randn(out_channels, channels, kernel, kernel) / fan_in**0.5
        state[f"{name}.bias"] = torch.randn(out_channels) / 10
    return state


def _forward(s: State, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
    """The published forward pass, from the layer table, on a state dict."""

    def conv(name: str, x: Tensor) -> Tensor:
        weight, dilation = s[f"{name}.weight"], 2 if "dense" in name else 1
        around = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, s[f"{name}.bias"], padding=around, dilation=dilation)

    f1, f2, f3 = (F.leaky_relu(conv("conv1", x)) for x in (short, mid, long))
    attended = []
    for f, first, second in ((f1, "att11", "att12"), (f3, "att31", "att32")):
        attended.append(
            f * conv(second, F.leaky_relu(conv(first, torch.cat([f, f2], 1)))).sigmoid()
        )
    x = conv("conv2", torch.cat([attended[0], f2, attended[1]], 1))
    outputs = []
    for block in (1, 2, 3):
        dense = x
        for n in range(6):
            dense = torch.cat([dense, conv(f"RDB{block}.dense_layers.{n}.conv", dense).relu()], 1)
        x = x + conv(f"RDB{block}.conv_1x1", dense)
        outputs.append(x)
    x = conv("GFF_3x3", conv("GFF_1x1", torch.cat(outputs, 1))) + f2
    return conv("conv3", conv("conv_up", x)).sigmoid()


@pytest.mark.parametrize(("domain", "planes", "output_planes"), [("rgb", 6, 3), ("raw", 8, 4)])
def test_an_imported_network_computes_what_the_published_one_does(
    domain: str, planes: int, output_planes: int, tmp_path: Path
) -> None:
    state = _published(planes, output_planes)
    torch.save(state, tmp_path / "trained_model200.pkl")
    done = import_weights(tmp_path / "trained_model200.pkl", tmp_path / "ours.safetensors")
    assert (done.name, done.domain) == ("ahdrnet-paper", domain)
    assert done.left_out == (
        *("attConv1.bias", "attConv1.weight", "attConv3.bias", "attConv3.weight"),
    )
    loaded = load_model("ahdrnet-paper", domain=domain, weights=done.path)
    frames = example_frames(domain, 24, 24)
    torch.testing.assert_close(loaded.module(*frames), _forward(state, *frames))
    header = read_header(done.path)
    assert header["config"]["domain"] == domain
    assert header["imported"]["file"] == "trained_model200.pkl"


@pytest.mark.parametrize("wrapped", ["list", "state_dict", "parallel", "safetensors"])
def test_usual_wrappings_are_opened(wrapped: str, tmp_path: Path) -> None:
    state, path = _published(), tmp_path / f"checkpoint.{wrapped}"
    if wrapped == "safetensors":
        save_file(state, path)
    elif wrapped == "list":  # deep-hdr-baselines: weights and optimiser
        torch.save([state, {"state": {}, "param_groups": []}], path)
    elif wrapped == "state_dict":
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    done = import_weights(path, tmp_path / "out.safetensors")
    loaded = load_model("ahdrnet-paper", domain="rgb", weights=done.path)
    assert torch.equal(loaded.module.state_dict()["out.bias"], state["conv3.bias"])


def test_dead_weights_are_not_needed(tmp_path: Path) -> None:
    state = {k: v for k, v in _published().items() if not k.startswith("attConv")}
    torch.save(state, tmp_path / "a.pth")
    assert import_weights(tmp_path / "a.pth", tmp_path / "a.safetensors").left_out == ()


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch attacked",)


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({**_published(), "extra": _Attack()}, "evil.pkl")
    with pytest.raises(WeightsError, match="can run code"):
        import_weights(Path("evil.pkl"), Path("out.safetensors"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pkl"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"RDB4.conv_1x1.weight": torch.zeros(1)}, "not this AHDRNet's: RDB4.conv_1x1.weight"),
        ({"att12.weight": None}, "no att12.weight"),
        ({"att12.weight": torch.zeros(64, 64, 3, 3)}, r"att12.weight is \(64, 64, 3, 3\)"),
        ({"conv1.weight": torch.zeros(64, 12, 3, 3)}, r"conv1.weight is \(64, 12, 3, 3\)"),
        ({"conv1.weight": None}, "no conv1"),
        ({"att12.bias": torch.full((64,), torch.nan)}, "NaN"),
    ],
)
def test_other_state_dicts_are_refused(
    change: dict[str, Tensor | None], says: str, tmp_path: Path
) -> None:
    state = {k: v for k, v in {**_published(), **change}.items() if v is not None}
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=says):
        import_weights(tmp_path / "other.pth", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_a_narrower_network_and_other_files_are_refused(tmp_path: Path) -> None:
    torch.save(_published(features=32), tmp_path / "narrow.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    torch.save([1, 2], tmp_path / "numbers.pth")
    (tmp_path / "there.safetensors").touch()
    for source, to, says in (
        ("narrow.pth", "out", "another size"),
        ("text.pth", "out", "cannot be read|more than tensors"),
        ("numbers.pth", "out", "no state dict"),
        ("absent.pth", "out", "no such file"),
        ("narrow.pth", "there", "exists"),
    ):
        with pytest.raises(WeightsError, match=says) as caught:
            import_weights(tmp_path / source, tmp_path / f"{to}.safetensors")
        assert caught.value.expected or caught.value.fix
