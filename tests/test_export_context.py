"""Networks that look at the whole image are cut in two, with proof, or refused."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pockethdr.brackets.bracket import Bracket, Camera, Frame
from pockethdr.errors import ModelError
from pockethdr.export import context
from pockethdr.export.aten import aten
from pockethdr.export.context import ContextError, find_cut, prove_cut, split
from pockethdr.export.rewrite import ProofError
from pockethdr.export.static import static_program
from pockethdr.models.load import Loaded, example_frames
from pockethdr.models.receptive import Sight
from pockethdr.runtime.context import Context
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.tiling import assembled, cut, stream, tiles

SIZE, C = 64, 6
ODD = 72


@pytest.fixture(autouse=True)
def _small_traces(monkeypatch):
    monkeypatch.setattr(context, "_SMALL", 96)
    monkeypatch.setattr(context, "_LARGE", 192)


class Net(nn.Module):
    """Two convolutions around something that may look at the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(24, C, 3, padding=1), nn.Conv2d(C, 4, 3, padding=1)
        self.mix = nn.Conv2d(C, C, 1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = F.relu(self.first(torch.cat([short, mid, long], 1)))
        return torch.sigmoid(self.last(self.middle(x)))

    def middle(self, x: Tensor) -> Tensor:
        return x


class Gated(Net):
    """Squeeze and excitation: for each channel a factor and an offset, from the image's mean."""

    def middle(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.mix(x.mean((2, 3), keepdim=True)))
        return x * gate + self.mix(2 * F.adaptive_avg_pool2d(x, 1))


class TwiceSeen(Net):
    """What describes the whole image is read by tiles, and by more that describes it."""

    def middle(self, x: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool2d(x, 4)
        more = F.relu(self.mix(cells))
        near, far = (F.interpolate(v, size=x.shape[-2:], mode="nearest") for v in (cells, more))
        return x * (1 + 8 * near) + 8 * far


class NonLocal(Net):
    """Attention between the cells of a 4×4 grid, enlarged to half the frame's resolution."""

    def middle(self, x: Tensor) -> Tensor:
        half = F.avg_pool2d(x, 2)
        cells = F.adaptive_avg_pool2d(half, 4)
        flat = self.mix(cells).flatten(2)
        seen = (flat @ torch.softmax(flat.transpose(1, 2) @ flat, -1)).unflatten(2, (4, 4))
        half = half + F.interpolate(seen, size=half.shape[-2:], mode="nearest")
        return F.interpolate(half, scale_factor=2, mode="nearest")


class Channelwise(Net):
    """Attention between channels, whose pixels and gates are pieces of one value each."""

    def middle(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, 1)
        seen = torch.softmax(first.flatten(2) @ second.flatten(2).transpose(1, 2) / SIZE, -1)
        gain, more = self.mix(x.mean((2, 3), keepdim=True)).chunk(2, 1)
        mixed = (seen @ first.flatten(2)).view(first.shape)
        return torch.cat([mixed * gain, second * more], 1)


class Strided(Net):
    """Gated as often as a grid of three cells tells, and works at a sixteenth of the size."""

    def middle(self, x: Tensor) -> Tensor:
        coarse = F.avg_pool2d(x, 16)
        cells = self.mix(F.adaptive_avg_pool2d(x, 3)).mean((2, 3), keepdim=True)
        return x + cells * F.interpolate(coarse, size=x.shape[-2:], mode="nearest")


class Brightest(Net):
    """A factor for each channel, from its largest value in the image."""

    def middle(self, x: Tensor) -> Tensor:
        return x * self.mix(F.max_pool2d(x, x.shape[-2:]))


class Normed(Net):
    """Normalised by statistics of the image, beside a mean of it."""

    def middle(self, x: Tensor) -> Tensor:
        x = F.group_norm(x, 2) * self.mix(x.mean((2, 3), keepdim=True))
        return F.instance_norm(F.relu(x))


class Changing(Gated):
    """Has another value of the whole image at one size, which takes the name of the first."""

    def middle(self, x: Tensor) -> Tensor:
        if x.shape[2] == ODD:
            x = x * x.mean((2, 3), keepdim=True)
        return super().middle(x)


class Placed(Net):
    """Knows where each pixel lies."""

    def middle(self, x: Tensor) -> Tensor:
        rows = torch.linspace(0, 1, x.shape[2])[None, None, :, None]
        return x * x.mean((2, 3), keepdim=True) + rows


class Global(Net):
    """The mean is taken away, but every row still sees all others."""

    def middle(self, x: Tensor) -> Tensor:
        return x.cumsum(2) * x.mean((2, 3), keepdim=True)


class Masked(Net):
    """Gated too, of what the mean of a mask of clipped pixels leaves over."""

    blur = 9

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        clipped = (mid[:, :4].amax(1, keepdim=True) > 0.95).float()
        kept = 1 - F.avg_pool2d(clipped, self.blur, 1, self.blur // 2)
        x = F.relu(self.first(torch.cat([short, mid, long], 1))) * kept
        return torch.sigmoid(self.last(x * torch.sigmoid(self.mix(x.mean((2, 3), keepdim=True)))))


class WidelyMasked(Masked):
    """Sees further than the frames that it is traced with."""

    blur = 127


class Saturated(Gated):
    """Clipped, whatever the frames hold."""

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return (super().forward(short, mid, long) + 1).clamp(max=1)


def loaded(module: nn.Module) -> Loaded:
    torch.manual_seed(0)
    return Loaded("net", "net", "raw", type(module)().eval(), None, None)


@cache
def found_cut(net: type[Net], size: tuple[int, int] = (SIZE, SIZE)):
    return find_cut(loaded(net()), _program(net, size), 1)


def test_a_local_network_is_not_cut():
    assert found_cut(Net) is None


def test_operators_with_several_results_are_cut_at_those_of_the_whole_image():
    found = found_cut(Channelwise)
    assert found.record.channels == C // 2 * (C // 2) + 2 * (C // 2)
    assert found.proof.holds()


@pytest.mark.parametrize(
    ("net", "channels", "grid", "stride"),
    [
        (Gated, 12, None, 1),
        (NonLocal, C, (4, 4), 2),
        (TwiceSeen, 2 * C, (4, 4), 1),
        (Normed, 5 * C, None, 1),
    ],
)
def test_the_parts_are_the_network_and_tiles_equal_the_whole(net, channels, grid, stride):
    found = found_cut(net)
    assert (found.record.channels, found.record.grid, found.record.stride) == (
        channels,
        grid,
        stride,
    )
    assert found.proof.holds()
    assert found.sight.radius <= 4
    bracket = _bracket(92, 136)
    tiled = _run(net, found, bracket, (SIZE, SIZE))
    whole = _run(net, found, bracket, (92, 136))
    np.testing.assert_allclose(tiled, whole, atol=2e-6)
    wrong = _run(net, found, bracket, (SIZE, SIZE), forget=True)
    assert np.abs(wrong - whole).max() > 1e-3, "the context matters"


def test_a_mask_which_no_gradient_shows_counts_for_the_halo():
    found, bracket = found_cut(Masked), _bracket(92, 136)
    assert found.sight.radius == 5
    tiled, whole = (_run(Masked, found, bracket, size) for size in ((SIZE, SIZE), (92, 136)))
    np.testing.assert_allclose(tiled, whole, atol=2e-6)


def test_what_is_left_may_stride_below_the_size_of_the_frame():
    assert found_cut(Strided, (96, 96)).sight == Sight(17, 16)


def test_a_gradient_of_zeros_says_nothing_of_the_halo():
    with pytest.raises(ModelError, match="zero everywhere"):
        found_cut(Saturated)


class Normalised(nn.Module):
    """GroupNorm in front of each ReLU, as restoration networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(n, 8, 3, padding=1, bias=False) for n in (24, 8))
        self.norms = nn.ModuleList(nn.GroupNorm(4, 8) for _ in range(2))
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = F.relu(self.norms[0](self.a(torch.cat([short, mid, long], 1))))
        return torch.sigmoid(self.last(F.relu(self.norms[1](self.b(x)))))


@pytest.mark.parametrize("seed", range(4))
def test_a_normalisation_lets_something_through_while_the_halo_is_measured(seed):
    """With other statistics than its own, half of such networks were dead behind their ReLUs."""
    torch.manual_seed(seed)
    network = Loaded("net", "net", "raw", Normalised().eval(), None, None)
    found = find_cut(network, static_program(network, size=(SIZE, SIZE)).program, 1)
    assert found.sight.radius == 2


def test_extremes_of_the_whole_image_are_named():
    record = found_cut(Brightest).record
    assert record.extremes[0].startswith("test_export_context.py:")
    assert "taken from thumbnails" in record.caveat
    assert not found_cut(Gated).record.caveat


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.InstanceNorm2d(8)
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        return torch.sigmoid(self.last(self.norm(self.first(short + mid + long))))


def test_variances_of_the_whole_image_are_named():
    record = found_cut(Normed).record
    assert not record.extremes
    (line,) = record.spreads
    assert line.startswith("test_export_context.py:")
    assert f"variances of the whole image ({line}) are taken from thumbnails" in record.caveat


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Placed, "where the pixel lies"),
        (Global, "still sees all"),
        (WidelyMasked, "still sees all"),
    ],
)
def test_what_is_still_not_local_is_refused(net, message):
    with pytest.raises(ContextError, match=message):
        found_cut(net)


def test_the_cut_is_proved_at_the_size_that_is_exported(monkeypatch):
    proved = []
    monkeypatch.setattr(
        context, "prove_cut", lambda *given: proved.append((given, prove_cut(*given)))
    )
    found_cut(NonLocal, (ODD, 2 * ODD))
    (((program, _, frames), proof),) = proved
    assert program is _program(NonLocal, (ODD, 2 * ODD))
    assert [tuple(short.shape) for short, _, _ in frames] == 2 * [(1, 8, ODD, 2 * ODD)]
    assert proof.holds()


def test_a_graph_that_changes_with_the_size_is_refused():
    assert found_cut(Changing).proof.holds()
    with pytest.raises(ContextError, match="not what was measured at 192×192"):
        found_cut(Changing, (ODD, ODD))


def test_a_graph_without_the_nodes_of_the_cut_is_refused():
    names = found_cut(Gated).record
    with pytest.raises(ContextError, match="it has no `conv2d_2`"):
        prove_cut(_program(Net, (SIZE, SIZE)), names, [example_frames("raw", SIZE, SIZE)])


def test_a_context_that_is_a_little_off_fails_the_proof(monkeypatch):
    record, right = found_cut(Gated).record, context._context_part

    def brighter(program, record):
        part = right(program, record)
        output = part.graph.output_node()
        with part.graph.inserting_before(output):
            output.args = (part.graph.call_function(aten.mul.Tensor, (output.args[0], 1.001)),)
        part.recompile()
        return part

    monkeypatch.setattr(context, "_context_part", brighter)
    with pytest.raises(ProofError, match="`context` changed `output`"):
        prove_cut(_program(Gated, (SIZE, SIZE)), record, [example_frames("raw", SIZE, SIZE)])


def test_tiles_told_nothing_of_the_image_are_another_network():
    _, tile = split(_program(Gated, (SIZE, SIZE)), found_cut(Gated).record)
    frames = example_frames("raw", SIZE, SIZE)
    right = loaded(Gated()).module(*frames)
    assert not torch.allclose(tile(*frames, torch.zeros(1, 12, 1, 1)), right, atol=1e-3)


def _bracket(height, width):
    generator = np.random.default_rng(0)
    shape = 2 * height, 2 * width
    frames = [Frame(None, generator.random(shape, dtype=np.float32), t) for t in (1, 4, 16)]
    return Bracket("random", "raw", tuple(frames), (1.0, 4.0, 16.0), Camera())


@cache
def _program(net, size):
    return static_program(loaded(net()), size=size, allow_dynamic=True).program


def _run(net, found, bracket, size, *, forget=False):
    """The bracket by both parts in torch, on tiles of `size`."""
    record, feed = found.record, Feed(bracket)
    once, _ = split(_program(net, (SIZE, SIZE)), record)
    program = _program(net, size)
    tile_part = split(program, record)[1]
    with torch.no_grad():
        thumbnails = [torch.from_numpy(feed.thumbnail(i, (SIZE, SIZE))) for i in range(3)]
        seen = Context(once(*thumbnails).numpy() * (not forget), record, bracket.size())
        frames = bracket.inputs()

        def run(inputs):
            return tile_part(*(torch.from_numpy(x) for x in inputs)).numpy()

        def at(tile):
            return [*(cut(frame, tile) for frame in frames), seen.at(tile)]

        plan = tiles(bracket.size(), size, found.sight.radius, 2)
        return assembled(stream(run, at, plan), bracket.size())
