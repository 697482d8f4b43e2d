"""The network: its published sizes, every switch, and the input/output contract."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pockethdr.errors import ModelError
from pockethdr.models import zoo
from pockethdr.models.cost import macs, parameters
from pockethdr.models.dsan import Dsan, DsanConfig
from pockethdr.models.load import example_frames
from pockethdr.models.reference import with_kernels_per_pixel

_SMALL = DsanConfig(channels=8, latent=4, squeeze=8, blocks=2, block_type="res")

# Parameters, and GMAC at 1024×768, of the proposed architecture's table.
_GOLDEN = [
    ("dsan-full-global", 1_383_044, 1053),
    ("dsan-full-pixel", 1_407_300, 1113),
    ("dsan-full-grid", 1_483_140, 1059),
    ("dsan-m48-global", 328_192, 66.9),
    ("dsan-m48-grid", 369_216, 67.6),
    ("dsan-m48-pixel", 343_072, 72.7),
    ("dsan-m32-global", 155_184, 31.9),
    ("dsan-m32-grid", 183_920, 32.4),
    ("dsan-m32-pixel", 164_944, 35.9),
    ("dsan-m24-global", 90_856, 19.1),
    ("dsan-m24-grid", 113_448, 19.5),
    ("dsan-m24-pixel", 98_056, 21.9),
    ("dsan-m16-global", 44_800, 9.6),
    ("dsan-m16-grid", 61_248, 9.8),
    ("dsan-m16-pixel", 49_440, 11.5),
]


@pytest.mark.parametrize(("name", "count", "gmac"), _GOLDEN)
def test_golden_sizes(name: str, count: int, gmac: float) -> None:
    config = zoo.variant(name).config
    assert parameters(Dsan(config)) == count
    decimals = 0 if gmac > 100 else 1
    assert round(macs(config, 768, 1024) / 1e9, decimals) == gmac


def test_golden_parts_of_the_full_network() -> None:
    network = Dsan(zoo.variant("dsan-full-global").config)
    assert parameters(network.features) == 4_672
    assert parameters(network.filter_short) == parameters(network.filter_long) == 64_832
    assert parameters(network.fuse) == 110_656
    assert [parameters(block) for block in network.blocks] == [265_472] * 4
    assert network.tail_up is not None
    assert parameters(network.tail) == parameters(network.tail_up) == 36_928
    assert parameters(network.out) == 2_308


def test_golden_sizes_of_the_variants_without_a_name() -> None:
    three = replace(zoo.variant("dsan-full-global").config, blocks=3)
    assert parameters(Dsan(three)) == 1_117_572
    assert round(macs(three, 768, 1024) / 1e9) == 845
    blocked = replace(zoo.variant("dsan-full-pixel").config, latent=16, block=4)
    assert parameters(Dsan(blocked)) == 1_409_348
    assert round(macs(blocked, 768, 1024) / 1e9) == 1114


@pytest.mark.parametrize("domain", zoo.DOMAINS)
@pytest.mark.parametrize("mode", zoo.PHI_MODES)
def test_output_is_an_hdr_frame_of_the_inputs_size(domain: str, mode: str) -> None:
    network = zoo.build(f"dsan-m16-{mode}", domain)
    hdr = network(*example_frames(domain, 16, 24, batch=2)).detach()
    assert hdr.shape == (2, {"raw": 4, "rgb": 3}[domain], 16, 24)
    assert 0 <= hdr.min() <= hdr.max() <= 1
    assert hdr.mean().item() == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize(
    "switches",
    [
        {"phi_mode": "static"},
        {"phi_act": "none"},
        {"q_kernel": 3},
        {"block": 2},
        {"use_lambda": True},
        {"use_lambda": True, "phi_mode": "grid"},
        {"filter_input": "concat"},
        {"share_filters": True},
        {"block_type": "drdb", "gff": True},
        {"down": 2},
        {"act": "relu"},
        {"tail": 1},
        {"act_between": True},
        {"input_mode": "lin+lin1"},
        {"input_mode": "ldr"},
    ],
)
def test_every_switch_changes_the_network_and_trains(switches: dict[str, object]) -> None:
    plain, switched = _SMALL, replace(_SMALL, **switches)  # type: ignore[arg-type]
    outputs = []
    for config in (plain, switched):
        torch.manual_seed(0)
        network = Dsan(config)
        for block in (network.filter_short, network.filter_long):
            for name, parameter in block.named_parameters():
                if name.startswith("head"):
                    torch.nn.init.normal_(parameter, std=0.3)
        hdr = network(*example_frames("raw", 16, 16))
        hdr.mean().backward()
        dead = [n for n, p in network.named_parameters() if p.grad is None]
        assert not dead
        outputs.append(hdr)
    assert not torch.allclose(*outputs, atol=1e-7)


def test_input_modes_read_what_they_say() -> None:
    """`ldr` ignores the aligned half; `lin+lin1` ignores the frames as shot."""
    frames = list(example_frames("raw", 16, 16))
    for mode, ignored in (("ldr", slice(4, 8)), ("lin+lin1", slice(0, 4))):
        network = Dsan(replace(_SMALL, input_mode=mode)).eval()
        changed = [frame.clone() for frame in frames]
        for frame in changed:
            frame[:, ignored] = torch.rand_like(frame[:, ignored])
        assert torch.equal(network(*frames), network(*changed))
        for frame in changed:
            frame.uniform_()
        assert not torch.equal(network(*frames), network(*changed))


@pytest.mark.parametrize("mode", ["pixel", "grid"])
def test_network_equals_its_reference_with_kernels_per_pixel(mode: str) -> None:
    torch.manual_seed(0)
    network = Dsan(replace(_SMALL, phi_mode=mode)).double()
    frames = [frame.double() for frame in example_frames("raw", 16, 16)]
    expected = network(*frames)
    torch.testing.assert_close(
        with_kernels_per_pixel(network)(*frames), expected, rtol=1e-12, atol=1e-12
    )


def test_tiles_equal_the_whole_frame_for_pixel_but_not_for_global() -> None:
    halo, size, tile = 26, 96, 32
    frames = example_frames("raw", size, size)
    start = slice(tile - halo, 2 * tile + halo)
    for mode, equal in (("pixel", True), ("global", False)):
        torch.manual_seed(0)
        network = zoo.build(f"dsan-m16-{mode}", "raw")
        for block in (network.filter_short, network.filter_long):
            torch.nn.init.normal_(block.head.phi.weight, std=1.0)
        whole = network(*frames)[..., tile : 2 * tile, tile : 2 * tile]
        cut = network(*(f[..., start, start] for f in frames))[..., halo:-halo, halo:-halo]
        assert torch.allclose(whole, cut, atol=1e-6) == equal


@pytest.mark.parametrize(
    "wrong",
    [{"phi_mode": "image"}, {"domain": "yuv"}, {"q_kernel": 5}, {"down": 4}, {"block": 3}],
)
def test_wrong_switches_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        replace(_SMALL, **wrong)  # type: ignore[arg-type]


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(ModelError, match="dsan-m32"):
        zoo.variant("dsan-m99")
    with pytest.raises(ModelError, match="no field"):
        DsanConfig.from_dict({"width": 3})
    assert len(zoo.names()) == len(set(zoo.names())) == 44
    assert zoo.variant("dsan-m32").config == zoo.variant("dsan-m32-pixel").config
