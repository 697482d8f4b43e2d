"""A small static network with every piece of a rewritten DSAN, for the tests of the targets."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from pockethdr.export.rewrite import apply_rewrites
from pockethdr.export.static import standard_rewrites
from pockethdr.export.targets import Target
from pockethdr.export.trace import traced

SIZE = 32


class Toy(nn.Module):
    """Shared strided first convolution, dynamic filter in its `concat` form, skips, sigmoid."""

    def __init__(self, end: str = "shuffle", phi: str = "pixel", slope: float = 0.0) -> None:
        super().__init__()
        c, rank, self.end, self.global_phi = 8, 4, end, phi == "global"
        self.activation = nn.LeakyReLU(slope) if slope else nn.ReLU()
        self.first = nn.Conv2d(4, c, 3, stride=2, padding=1)
        self.head = nn.Conv2d(2 * c, 8, 1)
        self.phi = nn.Conv2d(8, rank * rank, 1)
        self.q = nn.Conv2d(c, rank, 1, bias=False)
        self.w0 = nn.Conv2d(c, c, 3, padding=1)
        self.p = nn.Conv2d(rank * rank, c, 1, bias=False)
        self.fuse = nn.Conv2d(2 * c, c, 3, padding=1)
        self.a = nn.Conv2d(c, c, 3, padding=1)
        self.b = nn.Conv2d(c, c, 3, padding=1)
        self.up = nn.ConvTranspose2d(c, c, 4, stride=2, padding=1)
        self.last = nn.Conv2d(c, 4 if end == "transposed" else 16, 3, padding=1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x, r, other = (self.activation(self.first(f)) for f in (short, mid, long))
        context = torch.cat([x, r], 1)
        if self.global_phi:
            context = context.mean((2, 3), keepdim=True)
        phi = torch.tanh(self.phi(F.relu(self.head(context))))
        z = self.q(x)
        z = torch.cat([z, z], 1)
        z = torch.cat([z, z], 1)
        y = self.w0(x) + self.p(z * phi)
        x = F.relu(self.fuse(torch.cat([y, other], 1)))
        x = x + self.b(self.activation(self.a(x))) + r
        if self.end == "transposed":
            return torch.sigmoid(self.last(F.relu(self.up(x))))
        return torch.sigmoid(F.pixel_shuffle(self.last(x), 2))


def frames(seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(1, 4, SIZE, SIZE, generator=generator) for _ in range(3))


@cache
def toy(**options: Any) -> fx.GraphModule:
    """A traced `Toy` with seeded weights, spread so that the output is not all grey. Shared."""
    torch.manual_seed(7)
    net = Toy(**options)
    with torch.no_grad():
        net.last.weight *= 8
    return traced(net, frames())


def static(network: nn.Module) -> fx.GraphModule:
    """`network` traced on `frames()`, behind all rewrites."""
    program = traced(network.eval(), frames())
    return apply_rewrites(program, standard_rewrites(), [frames()]).program


@cache
def ranges_of(program: fx.GraphModule, inputs: tuple[Tensor, ...] | None = None) -> dict[str, Any]:
    """Minimum and maximum of every value for `inputs`, or `frames()`. Shared."""
    found: dict[str, Any] = {}

    class Observer(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor) and value.is_floating_point():
                found[n.name] = (float(value.min()), float(value.max()))
            return value

    with torch.no_grad():
        Observer(program).run(*(frames() if inputs is None else inputs))
    return found


def built_twice(target: Target, precision: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """An artifact of `toy()`, whose bytes must be the same on a second run, and its checks."""
    first, second = folder / f"a{target.suffix}", folder / f"b{target.suffix}"
    checks = target.build(toy(), frames(), precision, first)
    target.build(toy(), frames(), precision, second)
    assert first.read_bytes() == second.read_bytes()
    return first, checks


def run(program: fx.GraphModule, inputs: tuple[Tensor, ...]) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(program(*inputs))


def psnr(value: np.ndarray, expected: np.ndarray) -> float:
    """In dB, peak 1; 200 for equality."""
    assert value.shape == expected.shape
    error = float(np.mean((value.astype(np.float64) - expected) ** 2))
    return 200.0 if error == 0 else -10 * float(np.log10(error))
