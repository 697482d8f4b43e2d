"""The dynamic convolution against kernels written out by hand, and against the unfold reference."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pockethdr.models.dynamic_conv import DynamicConv, DynamicSpec
from pockethdr.models.reference import PerPixelKernels

_SPEC = DynamicSpec(
    channels=6, out_channels=5, context=12, latent=4, block=4, squeeze=8, mode="global"
)
_SWITCHES = [
    {},
    {"block": 2},
    {"block": 1},
    {"q_kernel": 3},
    {"q_kernel": 3, "block": 2, "kernel": 5},
    {"bounded": False},
    {"scale_outputs": True},
]


def _alive(spec: DynamicSpec) -> DynamicConv:
    """In float64, with a head whose Φ is far from its zero start and differs between inputs."""
    torch.manual_seed(3)
    layer = DynamicConv(spec).double()
    for parameter in layer.head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def _inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    return torch.randn(batch, 6, 8, 12).double(), torch.randn(batch, 12, 8, 12).double()


def _dense(phi: torch.Tensor) -> torch.Tensor:
    """Block-diagonal G×b×b → L×L."""
    return torch.block_diag(*phi)


@pytest.mark.parametrize("switches", _SWITCHES)
def test_per_image_equals_a_kernel_written_out(switches: dict[str, object]) -> None:
    layer = _alive(replace(_SPEC, **switches))  # type: ignore[arg-type]
    x, context = _inputs()
    phi, scale = layer.head(context)
    expand, compress = layer.expand.flatten(1), layer.compress.flatten(0, 1)
    centre = layer.spec.kernel // 2
    reach = layer.spec.q_kernel // 2
    for n, y in enumerate(layer(x, context)):
        kernel = layer.fixed.weight.clone()
        if scale is not None:
            kernel = kernel * scale[n][:, None, None, None]
        taps = slice(centre - reach, centre + reach + 1)
        low_rank = (expand @ _dense(phi[n]) @ compress.flatten(1)).view(5, 6, *compress.shape[2:])
        kernel[:, :, taps, taps] += low_rank
        expected = F.conv2d(x[n : n + 1], kernel, layer.fixed.bias, padding=centre)[0]
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        changed = (kernel - layer.fixed.weight).abs().amax()
        assert changed > 0.05, "the head must matter, or this test shows nothing"


@pytest.mark.parametrize("mode", ["pixel", "grid"])
@pytest.mark.parametrize("switches", _SWITCHES)
def test_per_pixel_equals_the_unfold_reference(mode: str, switches: dict[str, object]) -> None:
    layer = _alive(replace(_SPEC, mode=mode, **switches))  # type: ignore[arg-type]
    x, context = _inputs(2)
    y, expected = layer(x, context), PerPixelKernels(layer)(x, context)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert (y - layer.fixed(x)).abs().amax() > 0.05


def test_reference_notices_a_swapped_latent() -> None:
    layer = _alive(replace(_SPEC, mode="pixel"))
    x, context = _inputs(1)
    expected = PerPixelKernels(layer)(x, context)
    with torch.no_grad():
        layer.expand.copy_(layer.expand.flip(2))
    assert (layer(x, context) - expected).abs().amax() > 1e-3


def test_block_diagonal_equals_full_with_empty_off_blocks() -> None:
    full, blocks = _alive(_SPEC), _alive(replace(_SPEC, block=2))
    _, context = _inputs(2)
    phi, _ = blocks.head(context)
    dense = torch.stack([_dense(p) for p in phi])[:, None]
    with torch.no_grad():
        full.expand.copy_(blocks.expand.reshape(full.expand.shape))
        full.compress.copy_(blocks.compress.reshape(full.compress.shape))
    expected = blocks.kernel(phi, None) - blocks.fixed.weight
    got = full.kernel(dense, None) - full.fixed.weight
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_each_image_of_a_batch_has_its_own_kernel() -> None:
    layer = _alive(_SPEC)
    x, context = _inputs(4)
    together = layer(x, context)
    for n in range(4):
        alone = layer(x[n : n + 1], context[n : n + 1])
        torch.testing.assert_close(together[n : n + 1], alone, rtol=1e-12, atol=1e-12)
    crossed = layer(x, context.flip(0))
    assert (crossed - together).abs().amax() > 1e-2


@pytest.mark.parametrize("mode", ["global", "grid", "pixel"])
def test_a_fresh_layer_starts_as_its_fixed_kernel(mode: str) -> None:
    torch.manual_seed(0)
    layer = DynamicConv(replace(_SPEC, mode=mode)).double()
    x, context = _inputs()
    difference = (layer(x, context) - layer.fixed(x)).abs().mean()
    assert difference < 0.1 * layer.fixed(x).abs().mean()


def test_static_has_no_dynamic_parameters() -> None:
    layer = DynamicConv(replace(_SPEC, mode="static"))
    assert [name for name, _ in layer.named_parameters()] == ["fixed.weight", "fixed.bias"]
    with pytest.raises(ValueError, match="no kernel per pixel"):
        PerPixelKernels(layer)
