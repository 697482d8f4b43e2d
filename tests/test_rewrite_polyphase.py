"""Dilated chains run on phases with error 0.0."""

import pytest
import torch
from torch import nn

from pockethdr.export.aten import Conv, convs, op_counts, shape
from pockethdr.export.rewrites.polyphase import PolyphaseDilated


class Drdb(nn.Module):
    """The dilated residual dense block of AHDRNet."""

    def __init__(self, channels: int = 4, growth: int = 3, layers: int = 3, groups: int = 1):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + growth * i, growth, 3, padding=2, dilation=2)
            for i in range(layers)
        )
        self.last = nn.Conv2d(channels + growth * layers, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dense = x
        for layer in self.layers:
            dense = torch.cat([dense, torch.relu(layer(dense))], 1)
        return self.last(dense) + x


class Network(nn.Module):
    """Two blocks with both outputs read outside, a gate per channel and a mask per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
        self.blocks = nn.ModuleList([Drdb(), Drdb()])
        self.scale = nn.Parameter(torch.randn(1, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head(x)
        gate, mask = torch.sigmoid(x.mean((2, 3), keepdim=True)), torch.sigmoid(x[:, :1])
        first = self.blocks[0](x) * gate * self.scale
        pooled = first.amax((2, 3), keepdim=True)
        second = self.blocks[1](first * 0.5) * mask
        return self.tail(torch.cat([first, second + pooled], 1))


def is_dense(done) -> bool:
    return all(Conv(node).dilation == (1, 1) for node in convs(done.program))


def highest_rank(done) -> int:
    values = (node.meta["val"] for node in done.program.graph.nodes if "val" in node.meta)
    return max(value.dim() for value in values if isinstance(value, torch.Tensor))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("size", [(8, 8), (6, 10)])
def test_drdb_is_exact(prove, size, batch) -> None:
    done = prove(Drdb(), PolyphaseDilated(), shape=(batch, 4, *size))
    assert len(done.proofs) == 1
    assert done.proofs[0].max_relative_error <= 1e-15
    assert is_dense(done)
    assert highest_rank(done) == 4


@pytest.mark.parametrize("batch", [1, 4])
def test_phases_are_shared_between_exits(prove, batch) -> None:
    done = prove(Network(), PolyphaseDilated(), shape=(batch, 4, 8, 8))
    assert is_dense(done)
    assert len(done.proofs) == 2
    dense = [node for node in convs(done.program) if shape(node)[0] == 4 * batch]
    assert len(dense) == 8  # every layer of both blocks once


def test_grouped_wide_and_double_dilation(prove) -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=4, dilation=4, groups=2, bias=False),
        nn.LeakyReLU(0.1),
        nn.Conv2d(6, 4, (5, 1), padding=(4, 0), dilation=2),
    )
    done = prove(net, PolyphaseDilated())
    assert [Conv(node).dilation for node in convs(done.program)] == [(2, 2), (1, 1)]
    assert [Conv(node).groups for node in convs(done.program)] == [2, 1]


@pytest.mark.parametrize("size", [(7, 8), (8, 7)])
def test_refuses_odd_sizes(prove, size) -> None:
    done = prove(Drdb(), PolyphaseDilated(), shape=(1, 4, *size))
    assert not done.proofs
    assert f"odd size {size[0]}×{size[1]}" in done.refusals[0].reason


def test_refuses_a_chain_of_one(prove) -> None:
    done = prove(nn.Conv2d(4, 4, 3, padding=2, dilation=2), PolyphaseDilated())
    assert "only one dilated" in done.refusals[0].reason


def test_leaves_other_networks_alone(prove) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, dilation=2))
    done = prove(net, PolyphaseDilated())
    assert not done.proofs
    assert not done.refusals
    assert op_counts(done.program) == {"aten.conv2d": 2}
