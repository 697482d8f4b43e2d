"""Parameters and multiply-accumulates (convolution and linear, biases ignored).

A non-local block's two matrix products are left out: their cost does not grow with the image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pockethdr.models import zoo
from pockethdr.models.dynamic_conv import GLOBAL, STATIC, DynamicConv
from pockethdr.models.network import NetworkConfig


def parameters(module: nn.Module) -> int:
    """Trainable values, shared ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(config: NetworkConfig, height: int, width: int) -> int:
    """Multiply-accumulates for one bracket whose packed (or rgb) frames are height×width.

    A dynamic convolution counts as W0, Qᵀ and P per pixel: its exact low-rank form. Building or
    applying the L×L matrix is left out, as it is in the table this is compared with.
    """
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += _layer_macs(layer, inputs[0], output)

    with torch.device("meta"):
        network = zoo.network(config).eval()
        frame = torch.zeros(1, config.planes, height, width)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | DynamicConv):
            layer.register_forward_hook(count)
    network(frame, frame, frame)
    return total


def _layer_macs(layer: nn.Module, value: Tensor, output: Tensor) -> int:
    if isinstance(layer, nn.Linear):
        return layer.weight.numel()
    if isinstance(layer, nn.ConvTranspose2d):
        return value.shape[-2] * value.shape[-1] * layer.weight.numel()
    pixels = output.shape[-2] * output.shape[-1]
    if isinstance(layer, nn.Conv2d):
        return pixels * layer.weight.numel()
    return pixels * _dynamic_weights(layer) if isinstance(layer, DynamicConv) else 0


def _dynamic_weights(layer: DynamicConv) -> int:
    """Values that meet each pixel and that no inner nn.Conv2d has counted."""
    if layer.spec.mode == STATIC:
        return 0
    low_rank = layer.compress.numel() + layer.expand.numel()
    return low_rank + (layer.fixed.weight.numel() if layer.spec.mode == GLOBAL else 0)
