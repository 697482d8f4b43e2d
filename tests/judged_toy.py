"""A small network exported as ONNX by hand, with ways to break it, and brackets in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from torch import nn

from pockethdr.brackets.bracket import Bracket, Frame
from pockethdr.export.manifest import Artifact, FileRecord, Manifest, write_manifest
from pockethdr.files import sha256_of, size_of
from pockethdr.models.trust import trust

SIZE = 48
HALO = 2
NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(24, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 4, 3, padding=1)
    def forward(self, short, mid, long):
        x = torch.relu(self.first(torch.cat([short, mid, long], 1)))
        return torch.sigmoid(self.last(x))

def factory():
    torch.manual_seed(5)
    net = Net()
    with torch.no_grad():
        net.last.weight.mul_(6)
        net.last.bias.copy_(torch.tensor([-3.0, -4.0, -4.5, -6.0]))
    return net
"""


class Exported:
    """A fake output folder with one good artifact, and ways to add bad ones."""

    def __init__(self, out: Path, model: str = "net") -> None:
        self.out, self.model = out, model
        (out / "net.py").write_text(NETWORK)
        scope: dict[str, object] = {}
        exec(NETWORK, scope)
        self.net: nn.Module = scope["factory"]().eval()  # type: ignore[operator]
        save_file(self.net.state_dict(), out / "weights.safetensors")
        self.artifacts: list[Artifact] = []
        frames = tuple(torch.rand(1, 8, SIZE, SIZE) for _ in range(3))
        names = ["short", "mid", "long"]
        torch.onnx.export(
            self.net, frames, out / "good.onnx", dynamo=True, input_names=names,
            external_data=False, verbose=False,
        )  # fmt: skip
        self.record("good.onnx")

    def add(
        self,
        name: str,
        change: Callable[[np.ndarray], np.ndarray],
        precision: str = "fp32",
    ) -> None:
        """The good artifact with the weight and bias of its last convolution changed."""
        model = onnx.load(self.out / "good.onnx")
        for tensor in model.graph.initializer:
            if tensor.name.startswith("last."):
                changed = change(onnx.numpy_helper.to_array(tensor))
                tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
        onnx.save(model, self.out / name)
        self.record(name, precision=precision)

    def record(self, name: str, target: str = "onnx", precision: str = "fp32") -> None:
        path = self.out / name
        record = Artifact(target, precision, name, sha256_of(path), size_of(path))
        self.artifacts.append(record)

    def manifest(self) -> Manifest:
        weights = FileRecord("weights.safetensors", sha256_of(self.out / "weights.safetensors"))
        return Manifest(
            model=self.model,
            spec=f"{self.out / 'net.py'}:factory",
            domain="raw",
            size=(SIZE, SIZE),
            halo=HALO,
            multiple=1,
            channels=8,
            output_channels=4,
            weights=weights,
            graph_sha256="0" * 64,
            calibration=None,
            artifacts=tuple(self.artifacts),
            recipe={},
            rewrites=(),
            refusals=(),
            versions={},
            command="pockethdr export net.py:factory",
        )

    def write(self) -> Path:
        manifest = self.manifest()
        write_manifest(manifest, self.out, overwrite=True)
        trust(manifest.spec)
        return self.out


def bracket(name: str, *, truth: bool = True, size: tuple[int, int] = (90, 70)) -> Bracket:
    random = np.random.default_rng(len(name))
    scene = random.uniform(0.01, 1.0, (2 * size[0], 2 * size[1])).astype(np.float32) ** 2
    frames = tuple(Frame(None, np.clip(scene / 16 * r, 0, 1)) for r in (1.0, 4.0, 16.0))
    planes = np.stack([scene[r::2, c::2] for r in (0, 1) for c in (0, 1)]) / 16
    return Bracket(
        name,
        "raw",
        frames,  # type: ignore[arg-type]
        (1.0, 4.0, 16.0),
        ground_truth=planes if truth else None,
        flips=(True, False),
    )
