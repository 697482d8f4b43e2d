"""When two networks are the same one: their values, and what they compute of them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from pockethdr.calibration.observe import program_sha256
from pockethdr.export.trace import traced
from pockethdr.models.load import Loaded, example_frames


def state_sha256(loaded: Loaded) -> str:
    """Of all tensors that the modules hold: a user's factory may set them without a weights file.

    Parameters, buffers, such as no weights file holds, too, and plain attributes.
    """
    digest = hashlib.sha256()
    for name, value in sorted(_tensors_of(loaded.module).items()):
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}".encode())
        array = value.detach().cpu().contiguous()
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    plain = {
        f"{place}.{name}".removeprefix("."): value
        for place, part in module.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, Tensor)
    }
    return plain | dict(module.named_buffers()) | module.state_dict()


def network_sha256(loaded: Loaded, size: tuple[int, int]) -> str:
    """Of the values, and of the graph that a user's own network has at H, W = `size`.

    The graph of a network that comes with the package follows from its name and our code, which
    `provenance.code_sha256` knows.

    Raises:
        ModelError: the network cannot be traced.
    """
    values = state_sha256(loaded)
    if ":" not in loaded.spec:
        return values
    graph = program_sha256(traced(loaded.module, example_frames(loaded.domain, *size)))
    return hashlib.sha256(f"{values}{graph}".encode()).hexdigest()
