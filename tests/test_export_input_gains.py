"""Scaled inputs are the same function, and refused where they would not be."""

import export_toy as nets
import pytest
import torch
from torch import nn

from pockethdr.export import input_gains
from pockethdr.export.input_gains import with_input_gains
from pockethdr.export.recipe import RecipeError
from pockethdr.export.rewrite import ProofError
from pockethdr.export.trace import traced


def test_gains_are_folded_exactly() -> None:
    program, frames = nets.toy(), nets.frames()
    scaled = with_input_gains(program, (1.0, 2.0, 4.0))
    assert sum("aten.mul" in str(node.target) for node in scaled.graph.nodes) == 3  # one is Φ's
    assert nets.psnr(nets.run(scaled, frames), nets.run(program, frames)) > 120


def test_a_gain_of_its_own_for_each_frame() -> None:
    scaled = with_input_gains(nets.toy(), (1.0, 2.0, 4.0))
    gains = [value.flatten().tolist() for name, value in scaled.named_buffers() if "gains" in name]
    assert gains == [[1, 1, 2, 2], [1, 1, 4, 4]]


def test_without_gains_nothing_changes() -> None:
    program = nets.toy()
    for gains in ((), (1.0, 1.0, 1.0)):
        names = [node.name for node in with_input_gains(program, gains).graph.nodes]
        assert names == [node.name for node in program.graph.nodes]


def test_frames_that_something_else_reads_are_refused() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(12, 4, 3, padding=1)

        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return self.first(torch.cat([a, b, c], 1))

    program = traced(Joined(), nets.frames())
    with pytest.raises(RecipeError, match=r"(?s)cat reads the frame `mid`.*--recipe all-but-last"):
        with_input_gains(program, (1.0, 2.0, 4.0))


def test_a_gain_follows_the_square_root_of_a_frame() -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return self.first(a.sqrt()) + self.first(b.sqrt()) + self.first(c.sqrt())

    program, frames = traced(Rooted(), nets.frames()), nets.frames()
    scaled = with_input_gains(program, (1.0, 2.0, 4.0))
    torch.testing.assert_close(scaled(*frames), program(*frames), rtol=1e-5, atol=1e-6)
    assert [str(n.target) for n in scaled.graph.nodes].count("aten.mul.Tensor") == 2


class First(nn.Module):
    """One first convolution of a kind for all three frames."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first = first

    def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return self.first(a) + self.first(b) * self.first(c)


FIRSTS = {
    "plain": lambda: nn.Conv2d(8, 6, 3, padding=1),
    "same": lambda: nn.Conv2d(8, 6, 3, padding="same"),
    "grouped": lambda: nn.Conv2d(8, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(8, 16, 3, stride=2, groups=8, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(8, 8, 3),
    "transposed to fewer": lambda: nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
    "transposed and grouped": lambda: nn.ConvTranspose2d(8, 6, 3, groups=2),
    "transposed and depthwise": lambda: nn.ConvTranspose2d(8, 8, 3, groups=8),
}


def _first(kind: str) -> torch.fx.GraphModule:
    torch.manual_seed(0)
    return traced(First(FIRSTS[kind]()), _eight_channels())


def _eight_channels() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    return tuple(torch.rand(1, 8, 12, 12) for _ in range(3))


@pytest.mark.parametrize("kind", FIRSTS)
def test_every_kind_of_first_convolution_is_the_same_function(kind: str) -> None:
    program, frames = _first(kind), _eight_channels()
    powers = with_input_gains(program, (1.0, 2.0, 4.0))
    assert torch.equal(powers(*frames), program(*frames)), "powers of two round nothing"
    others = with_input_gains(program, (1.7, 0.3, 5.0))
    torch.testing.assert_close(others(*frames), program(*frames), rtol=1e-5, atol=1e-6)
    assert others(*frames).dtype == torch.float32


@pytest.mark.parametrize("kind", ["plain", "transposed"])
def test_weights_divided_along_the_wrong_axis_fail_the_proof(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_output(
        conv: input_gains.Conv, weight: torch.Tensor, factors: torch.Tensor
    ) -> torch.Tensor:
        outputs = factors[:, : conv.out_channels].flatten()
        return weight / outputs.reshape((1, -1, 1, 1) if conv.transposed else (-1, 1, 1, 1))

    monkeypatch.setattr(input_gains, "_divided", by_output)
    with pytest.raises(ProofError, match="`input_gains` changed `conv"):
        with_input_gains(_first(kind), (1.0, 2.0, 4.0))


def test_only_a_proof_tells_that_a_gain_is_a_little_off(monkeypatch: pytest.MonkeyPatch) -> None:
    right = input_gains._divided
    monkeypatch.setattr(input_gains, "_divided", lambda *given: right(*given) * (1 + 1e-7))
    with pytest.raises(ProofError, match=r"by \d\.\de-08"):
        with_input_gains(_first("plain"), (1.0, 3.0, 5.0))
