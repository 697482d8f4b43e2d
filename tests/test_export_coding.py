"""Scaled inputs are the same function, and refused where they would not be."""

import export_toy as nets
import pytest
import torch
from torch import nn

from pockethdr.export.coding import with_input_gains
from pockethdr.export.recipe import RecipeError
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
    with pytest.raises(RecipeError, match="cat reads the frame `mid`"):
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
