"""The codes that a Core ML package has to hold are those that it holds, whatever is summed."""

from pathlib import Path

import export_toy as nets
import pytest
import torch
from torch import Tensor, nn

from pockethdr.export.codes import codes_of_program, stored_codes
from pockethdr.export.quantize import quantized
from pockethdr.export.read_back import stored_in
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import TARGETS
from pockethdr.export.trace import traced


class Sums(nn.Module):
    """Of sums, of a difference, behind a ReLU, read elsewhere too, with a constant, with itself."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.inner, self.last = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.register_buffer("constant", torch.rand(1, 4, nets.SIZE, nets.SIZE))

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        x = self.inner(torch.relu(self.first(short + mid + long)))
        y, z = torch.relu(x), torch.tanh(x)
        total = {
            "chain": lambda: (y + z) + x,
            "relu": lambda: torch.relu(z - y) + y,
            "constant": lambda: (self.constant + y) + self.constant * z,
            "itself": lambda: y + y,
            "float reader": lambda: (s := y + z) + torch.exp(s),
        }[self.kind]()
        return self.last(self.inner(total))


@pytest.mark.parametrize("kind", ["chain", "relu", "constant", "itself", "float reader"])
def test_around_sums(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    torch.manual_seed(0)
    plain, coreml = traced(Sums(kind), nets.frames()), TARGETS["coreml"]
    program = quantized(plain, nets.ranges_of(plain), RECIPES["hdr-ends"], coreml.scheme).program
    path = tmp_path / "sums.mlpackage"
    coreml.build(program, nets.frames(), "int8", path)
    assert set(stored_in(path, "coreml").codes) == stored_codes(program, "coreml")


def test_other_formats_hold_them_as_they_are() -> None:
    program = nets.toy()
    done = quantized(program, nets.ranges_of(program), RECIPES["full"], TARGETS["onnx"].scheme)
    assert len(stored_codes(done.program, "onnx")) == len(codes_of_program(done.program))
