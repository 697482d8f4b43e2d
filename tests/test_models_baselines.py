"""The networks that DSAN is compared with: their published sizes, their parts, that they train."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from pockethdr.errors import ModelError
from pockethdr.models import ahdrnet, deephdr, encoder_decoder, nhdrrnet, zoo
from pockethdr.models.ahdrnet import Ahdrnet, AhdrnetConfig
from pockethdr.models.cost import macs, parameters
from pockethdr.models.load import example_frames
from pockethdr.models.receptive import Sight, measured_sight

_MOBILE = ("ahdrnet-mobile", "deephdr-mobile", "nhdrrnet-mobile")
_OTHERS = [row.name for row in zoo.rows() if not row.name.startswith("dsan")]

# Parameters, and GMAC at 1024×768. Where a published count is known, it is this one, rounded.
_GOLDEN = [
    ("ahdrnet-paper", "raw", 1_443_012, 1140.9),
    ("ahdrnet-bench", "rgb", 1_441_283, 1137.7),
    ("ahdrnet-mobile", "raw", 162_928, 34.7),
    ("deephdr-paper", "rgb", 16_606_339, 341.2),
    ("deephdr-paper", "raw", 16_617_540, 344.4),
    ("deephdr-bench", "raw", 14_204_484, 226.0),
    ("deephdr-mobile", "raw", 473_312, 34.2),
    ("nhdrrnet-paper", "rgb", 31_560_515, 105.1),
    ("nhdrrnet-bench", "raw", 40_288_452, 544.9),
    ("nhdrrnet-mobile", "raw", 469_244, 34.1),
]


def _on_meta(config: zoo.NetworkConfig) -> nn.Module:
    with torch.device("meta"):
        return zoo.network(config)


@pytest.mark.parametrize(("name", "domain", "count", "gmac"), _GOLDEN)
def test_golden_sizes(name: str, domain: str, count: int, gmac: float) -> None:
    config = replace(zoo.variant(name).config, domain=domain)
    assert parameters(_on_meta(config)) == count
    assert round(macs(config, 768, 1024) / 1e9, 1) == gmac


def test_golden_sizes_of_the_other_readings() -> None:
    """45.49 M is ytZhang99's NHDRRNet; 1,516,6xx is AHDRNet with its two unused convolutions."""
    concat = nhdrrnet.NhdrrnetPaperConfig(domain="rgb", combine="concat")
    assert parameters(_on_meta(concat)) == 45_486_339
    unused = 2 * (64 * 64 * 9 + 64)
    assert parameters(_on_meta(AhdrnetConfig())) + unused == 1_516_868


def test_golden_parts_of_ahdrnet() -> None:
    network = _on_meta(AhdrnetConfig())
    assert isinstance(network, Ahdrnet)
    layers = {
        "features": (4_672, 3.62 * 3),
        "attention_short": (147_584 + 73_792, 115.96 + 57.98),
        "fuse": (110_656, 86.97),
        "gather": (12_352, 9.7),
        "out": (2_308, 1.8),
    }
    for name, (count, gmac) in layers.items():
        part = getattr(network, name)
        weights = sum(m.weight.numel() for m in part.modules() if isinstance(m, nn.Conv2d))
        assert parameters(part) == count
        times = 3 if name == "features" else 1
        assert weights * times * 768 * 1024 / 1e9 == pytest.approx(gmac, abs=0.06)
    assert [parameters(block) for block in network.blocks] == [265_472] * 3


@pytest.mark.parametrize("name", _MOBILE)
def test_mobile_networks_cost_what_dsan_m32_costs(name: str) -> None:
    """Within a tenth, against its default form and its cheapest; and weights under 2 MB."""
    cost = macs(zoo.variant(name).config, 768, 1024)
    for ours in ("dsan-m32", "dsan-m32-global"):
        assert cost == pytest.approx(macs(zoo.variant(ours).config, 768, 1024), rel=0.1)
    assert 4 * parameters(zoo.build(name, "raw")) < 2e6


@pytest.mark.parametrize("domain", zoo.DOMAINS)
@pytest.mark.parametrize("name", _MOBILE)
def test_output_is_a_dark_hdr_frame_of_the_inputs_size(name: str, domain: str) -> None:
    torch.manual_seed(0)
    network = zoo.build(name, domain)
    hdr = network(*example_frames(domain, 16, 24, batch=2)).detach()
    assert hdr.shape == (2, {"raw": 4, "rgb": 3}[domain], 16, 24)
    assert 0 <= hdr.min() <= hdr.max() <= 1
    assert hdr.mean().item() == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("name", _OTHERS)
def test_the_declared_multiple_is_enough_and_needed(name: str) -> None:
    config = _narrow(name)
    network = zoo.network(config).eval()
    for size in (config.multiple * 4, config.multiple * 5):
        assert network(*example_frames("raw", size, size)).shape[-2:] == (size, size)
    if config.multiple > 1:
        side = config.multiple * 4 + config.multiple // 2
        with pytest.raises(RuntimeError):
            network(*example_frames("raw", side, side))


@pytest.mark.parametrize("name", _OTHERS)
def test_every_network_trains_every_parameter(name: str) -> None:
    """Towards a grey image, the loss falls by a third in a few steps."""
    torch.manual_seed(0)
    network = zoo.network(_narrow(name))
    frames = example_frames("raw", 32, 32, batch=2)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    losses = []
    for _ in range(25):
        loss = (network(*frames) - 0.25).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in network.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 2 / 3 * losses[0]


def test_the_reference_frame_passes_attention_untouched() -> None:
    """With attention shut, neither the short nor the long frame has any influence."""
    network = zoo.build("ahdrnet-mobile", "raw")
    frames = example_frames("raw", 16, 16)
    assert isinstance(network, Ahdrnet)
    for attention in (network.attention_short, network.attention_long):
        nn.init.constant_(attention.second.bias, -100.0)  # type: ignore[arg-type]
    others = (frames[0].flip(-1), frames[1], frames[2].flip(-2))
    assert torch.allclose(network(*frames), network(*others), atol=1e-7)
    assert not torch.allclose(network(*frames), network(frames[0], others[0], frames[2]))


def test_non_local_is_attention_over_all_cells() -> None:
    """Against the formula, written cell by cell."""
    torch.manual_seed(0)
    layer = nhdrrnet.NonLocal(6).double()
    x = torch.randn(1, 6, 32, 32, dtype=torch.float64)
    p = nn.functional.avg_pool2d(x, 2)
    theta, phi, g = (conv(p)[0].flatten(1).T for conv in (layer.theta, layer.phi, layer.g))
    seen = torch.stack(
        [sum(w * v for w, v in zip((q @ phi.T).softmax(0), g, strict=True)) for q in theta]
    )
    expected = layer.back(seen.T.reshape(1, 3, 16, 16)) + p
    torch.testing.assert_close(layer(x), expected.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        (ahdrnet.VARIANTS["paper"], {"down": 3}),
        (deephdr.VARIANTS["paper"], {"padding": "same"}),
        (deephdr.VARIANTS["paper"], {"block_norms": 3}),
        (nhdrrnet.VARIANTS["bench"], {"combine": "max"}),
        (nhdrrnet.VARIANTS["paper"], {"domain": "yuv"}),
    ],
)
def test_wrong_switches_are_named(config: zoo.NetworkConfig, wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        replace(config, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [n for n in _OTHERS if not n.endswith("bench")])
def test_the_declared_radius_is_the_measured_one(name: str) -> None:
    torch.manual_seed(0)
    config = _narrow(name)
    found = measured_sight(zoo.network(config), example_frames("raw", 16, 16), config.multiple)
    assert found == Sight(config.radius, config.multiple)


def test_declared_radii_of_the_whole_networks() -> None:
    radii = {name: zoo.variant(name).config.radius for name in _OTHERS}
    assert radii["ahdrnet-paper"] == 43
    assert radii["ahdrnet-mobile"] == 86
    assert radii["deephdr-paper"] == 62 + 7 * 2 * 8  # seven more residual blocks than `_narrow`'s
    assert radii["nhdrrnet-bench"] is None


@pytest.mark.parametrize("name", _OTHERS)
def test_configurations_survive_a_weights_header(name: str) -> None:
    config = zoo.variant(name).config
    as_json = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
    assert type(config).from_dict(as_json) == config


def _narrow(name: str) -> zoo.NetworkConfig:
    """The same network with few channels: structure and switches are what these tests are of."""
    config = zoo.variant(name).config
    if isinstance(config, AhdrnetConfig):
        return replace(config, channels=8, growth=4, blocks=2)
    if isinstance(config, encoder_decoder.EncoderDecoderConfig):
        return replace(config, widths=(8, 8, 8), blocks=2)
    return replace(config, widths=(8, 8, 8, 8), blocks=2)  # type: ignore[call-arg]
