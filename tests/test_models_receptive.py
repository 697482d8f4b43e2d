"""The measured halo, on networks whose halo is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pockethdr.errors import ModelError
from pockethdr.models import zoo
from pockethdr.models.blocks import DenseBlock
from pockethdr.models.dsan import Dsan
from pockethdr.models.load import example_frames
from pockethdr.models.receptive import Sight, measured_sight, sight_of

_FRAMES = example_frames("raw", 16, 16)


def receptive_radius(module: nn.Module, frames: tuple[Tensor, ...]) -> int | None:
    return measured_sight(module, frames, multiple=2).radius


class _Wrapped(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return self.layers(mid)


@pytest.mark.parametrize(
    ("layers", "radius"),
    [
        ([nn.Conv2d(8, 4, 1)], 0),
        ([nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 5, padding=2)], 3),
        ([nn.Conv2d(8, 4, 3, padding=20, dilation=20)], 20),
        ([nn.Conv2d(8, 4, 3, padding=60, dilation=60)], 60),
        ([nn.PixelUnshuffle(2), nn.Conv2d(32, 16, 3, padding=1), nn.PixelShuffle(2)], 2),
    ],
)
def test_known_radii(layers: list[nn.Module], radius: int) -> None:
    torch.manual_seed(0)
    assert receptive_radius(_Wrapped(*layers), _FRAMES) == radius


def test_global_means_have_none() -> None:
    torch.manual_seed(0)
    tiny = replace(zoo.variant("dsan-m16-global").config, channels=4, blocks=1, squeeze=4)
    assert receptive_radius(Dsan(tiny), _FRAMES) is None


class _Over(nn.Module):
    """A convolution over one value of the whole image, and nothing wider."""

    def __init__(self, statistic: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, padding=1)
        self.statistic = statistic

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return self.conv(mid) / (1e-3 + self.statistic(mid))


@pytest.mark.parametrize(
    "statistic",
    [torch.amax, torch.amin, torch.mean, torch.std, lambda x, _: x.median()],
    ids=["maximum", "minimum", "mean", "deviation", "median"],
)
def test_one_value_of_the_whole_image_leaves_no_halo(statistic: Callable[..., Tensor]) -> None:
    """Some of these move with single pixels, of which a gradient tells only one."""
    torch.manual_seed(0)
    module = _Over(lambda x: statistic(x, (1, 2, 3)).reshape(-1, 1, 1, 1))
    assert receptive_radius(module, _FRAMES) is None


def test_a_largest_activation_leaves_no_halo() -> None:
    """Whichever sign its convolution has, dark or bright pixels hold it."""
    for seed in range(2):
        torch.manual_seed(seed)
        inner = nn.Conv2d(8, 4, 3, padding=1)
        module = _Over(lambda x, inner=inner: inner(x).amax((1, 2, 3), keepdim=True).exp())
        module.inner = inner  # so that it is taken to float64 too
        assert receptive_radius(module, _FRAMES) is None


def test_a_halo_beyond_what_is_looked_at_is_none() -> None:
    torch.manual_seed(0)
    far = _Wrapped(nn.Conv2d(8, 4, 3, padding=300, dilation=300))
    assert receptive_radius(far, _FRAMES) is None


class _Masked(nn.Module):
    """A convolution of what a mask's mean over 9×9 pixels leaves over: a halo of 4 and 1."""

    def __init__(self, mask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.mask = nn.Conv2d(8, 4, 3, padding=1), mask

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        blurred = nn.functional.avg_pool2d(self.mask(mid).to(mid.dtype), 9, 1, 4)
        return self.conv(mid * (1 - blurred))


@pytest.mark.parametrize(
    "mask",
    [
        lambda x: x.amax(1, keepdim=True) > 0.95,
        lambda x: x.amin(1, keepdim=True) >= 1,
        lambda x: x.mean(1, keepdim=True) <= 0,
        lambda x: (x > 0.1) & (x < 0.3),
    ],
    ids=["clipped", "clipped in all channels", "black", "dark grey"],
)
def test_a_mask_which_no_gradient_shows_counts(mask: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    assert receptive_radius(_Masked(mask), _FRAMES) == 5


def test_a_mask_alone_counts() -> None:
    blurred = _Of(lambda mid: nn.functional.avg_pool2d((mid[:, :4] > 0.5).double(), 5, 1, 2))
    assert receptive_radius(blurred, _FRAMES) == 2


def test_a_mask_of_the_whole_image_leaves_no_halo() -> None:
    torch.manual_seed(0)
    assert receptive_radius(_Over(lambda x: (x > 0.95).to(x.dtype).mean()), _FRAMES) is None


@pytest.mark.parametrize(
    "last", [lambda x: (x + 2).clamp(max=1), lambda x: (255 * x).round() / 255]
)
def test_a_gradient_of_zeros_says_nothing_of_the_halo(last: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ModelError, match="zero everywhere"):
        receptive_radius(_Of(lambda mid: last(mid[:, :4])), _FRAMES)


class _Placed(nn.Module):
    """Warps by a share of the frame's size, or knows where in the frame a pixel lies."""

    def __init__(self, warps: bool) -> None:
        super().__init__()
        self.conv, self.warps = nn.Conv2d(8, 4, 3, padding=1), warps

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        height, width = mid.shape[-2:]
        sides = (torch.linspace(-1, 1, n, dtype=mid.dtype) for n in (height, width))
        rows, columns = torch.meshgrid(*sides, indexing="ij")
        if not self.warps:
            return self.conv(mid) * rows * columns
        shifted = torch.stack((columns + 0.02, rows + 0.02), -1)[None]
        return nn.functional.grid_sample(self.conv(mid), shifted, align_corners=True)


@pytest.mark.parametrize("warps", [True, False], ids=["warp", "coordinates"])
def test_what_depends_on_place_or_size_has_no_halo(warps: bool) -> None:
    """Each tile would be warped by its own size, and tell its own coordinates."""
    torch.manual_seed(0)
    assert receptive_radius(_Placed(warps), _FRAMES) is None


class _Of(nn.Module):
    def __init__(self, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.of_mid = forward

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return self.of_mid(mid)


def test_a_network_that_looks_at_no_frame_has_a_halo_of_nothing() -> None:
    assert receptive_radius(_Of(lambda mid: torch.ones_like(mid[:, :4])), _FRAMES) == 0


def test_a_network_without_a_gradient_is_refused() -> None:
    def doubled(mid: Tensor) -> Tensor:
        bright = torch.sigmoid(mid[:, :4])
        bright *= 2
        return bright

    with pytest.raises(ModelError, match=r"no gradient, by which .* inplace"):
        receptive_radius(_Of(doubled), _FRAMES)


def test_the_mobile_network_needs_26_and_the_grid_more() -> None:
    torch.manual_seed(0)
    network = zoo.build("dsan-m16", "raw")
    assert receptive_radius(network, _FRAMES) == 26
    assert receptive_radius(zoo.build("dsan-m16-grid", "raw"), _FRAMES) == 42


def test_the_full_network_needs_54() -> None:
    """Its halo depends on depth and dilation alone, so a narrow one tells it."""
    torch.manual_seed(0)
    config = replace(zoo.variant("dsan-full").config, channels=8, latent=2, squeeze=4)
    narrow = Dsan(config)
    narrow.blocks = nn.ModuleList(DenseBlock(8, growth=8) for _ in range(config.blocks))
    assert receptive_radius(narrow, _FRAMES) == 54


@pytest.mark.parametrize(
    "name", ["dsan-m16", "dsan-m16-grid", "dsan-m16-static", "dsan-m16-global"]
)
def test_dsan_declares_what_is_measured(name: str) -> None:
    torch.manual_seed(0)
    network = zoo.build(name, "raw")
    declared, found = sight_of(network, _FRAMES, 2), measured_sight(network, _FRAMES, 2)
    assert declared == (found if found.radius is not None else Sight(None, 2))


def test_own_networks_are_measured() -> None:
    torch.manual_seed(0)
    assert sight_of(_Wrapped(nn.Conv2d(8, 4, 5, padding=2)), _FRAMES, 1) == Sight(2, 1)


class _Resized(nn.Module):
    """A U-Net that takes any size: its decoder is enlarged to the encoder's."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 4, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(4, 4, 3, 2, 1) for _ in range(levels))

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        maps = [self.first(mid)]
        for down in self.down:
            maps.append(down(maps[-1]))
        x = maps.pop()
        while maps:
            x = maps[-1] + nn.functional.interpolate(x, size=maps.pop().shape[2:])
        return x


@pytest.mark.parametrize("levels", [1, 3, 5, 6])
def test_frames_are_moved_by_what_the_network_strides_by(levels: int) -> None:
    """Whatever sizes it takes."""
    torch.manual_seed(0)
    assert _Resized(levels)(*example_frames("raw", 65, 67)).shape[2:] == (65, 67)
    found = measured_sight(_Resized(levels), _FRAMES)
    assert found.multiple == 2**levels
    assert found.radius is not None


def test_a_stride_beyond_what_is_moved_has_no_halo() -> None:
    torch.manual_seed(0)
    assert measured_sight(_Resized(7), _FRAMES).radius is None


def test_pixels_of_a_cell_see_unlike_far() -> None:
    """The first of sixteen sees the coarse pixel before its own, the others only their own."""

    def coarse(mid: Tensor) -> Tensor:
        fine = nn.functional.avg_pool2d(mid[:, :4], 16).repeat_interleave(16, 2)
        fine = fine.repeat_interleave(16, 3)
        lines = (torch.arange(mid.shape[2]) % 16 == 0)[:, None]
        return torch.where(lines, fine.roll(16, 2), fine)

    assert measured_sight(_Of(coarse), _FRAMES, 16) == Sight(16, 16)


def test_height_and_width_are_both_looked_at() -> None:
    torch.manual_seed(0)
    wide = _Wrapped(nn.Conv2d(8, 4, (3, 9), padding=(1, 4)))
    assert receptive_radius(wide, _FRAMES) == 4


def test_the_module_comes_back_unchanged() -> None:
    network = zoo.build("dsan-m16", "raw").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    receptive_radius(network, _FRAMES)
    assert network.training
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in network.parameters())


class _Makes(nn.Module):
    """Makes constants and converts masks on its way, and holds a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3, padding=1)
        self.box = torch.ones(4, 1, 5, 5) / 25

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        seen = self.conv((mid > 0.5).float()) + self.conv(mid)
        seen = nn.functional.conv2d(seen, self.box, padding=2, groups=4)
        written = torch.zeros(1, 8, *mid.shape[2:])
        written[:, :4] = seen
        return nn.functional.conv2d(written, torch.ones(4, 8, 3, 3), padding=1)


def test_constants_made_on_the_way_are_of_double_precision_too() -> None:
    torch.manual_seed(0)
    assert receptive_radius(_Makes(), _FRAMES) == 1 + 2 + 1
