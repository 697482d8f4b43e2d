"""The one view of convolutions reads every spelling alike."""

import pytest
import torch
from torch import fx, nn

from pockethdr.export.aten import Conv, arguments, convs, emit_conv, is_conv, pads_unequally, shape


def program_of(module: nn.Module, *frames: torch.Tensor) -> fx.GraphModule:
    return torch.export.export(module.eval(), frames).run_decompositions({}).module()


def conv_of(module: nn.Module, frame: torch.Tensor) -> Conv:
    (node,) = convs(program_of(module, frame))
    return Conv(node)


FRAME = torch.randn(2, 4, 12, 10)


def test_reads_a_conv() -> None:
    conv = conv_of(nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), groups=2), FRAME)
    assert (conv.stride, conv.padding, conv.dilation) == ((2, 1), (1, 0), (1, 1))
    assert (conv.kernel, conv.groups, conv.transposed) == ((3, 1), 2, False)
    assert (conv.in_channels, conv.out_channels) == (4, 6)
    assert conv.bias is not None
    assert conv.macs == 2 * 6 * 10 * 6 * 2 * 3


def test_reads_a_transposed_conv() -> None:
    module = nn.ConvTranspose2d(4, 6, 5, 2, padding=2, output_padding=1, groups=2, bias=False)
    conv = conv_of(module, FRAME)
    assert (conv.stride, conv.padding, conv.output_padding) == ((2, 2), (2, 2), (1, 1))
    assert (conv.in_channels, conv.out_channels, conv.groups) == (4, 6, 2)
    assert conv.transposed
    assert conv.bias is None
    assert conv.macs == 2 * 12 * 10 * 4 * 3 * 25


def test_reads_same_padding() -> None:
    conv = conv_of(nn.Conv2d(4, 6, 3, padding="same", dilation=2), FRAME)
    assert conv.padding == (2, 2)
    assert conv.keeps_size()
    assert conv_of(nn.Conv2d(4, 6, 3, padding="valid"), FRAME).padding == (0, 0)


def test_unequal_padding_is_not_a_conv() -> None:
    program = program_of(nn.Conv2d(4, 6, 2, padding="same"), FRAME)
    assert not list(convs(program))
    assert any(pads_unequally(node) for node in program.graph.nodes)


def test_a_1d_conv_is_not_a_conv() -> None:
    assert not list(convs(program_of(nn.Conv1d(12, 6, 3), FRAME[0])))


@pytest.mark.parametrize("transposed", [False, True])
def test_reads_the_core_spelling(transposed: bool) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    module = kind(4, 4, 3, stride=2, padding=1).eval()
    program = torch.export.export(module, (FRAME,)).run_decompositions().module()
    (node,) = convs(program)
    assert node.target is torch.ops.aten.convolution.default
    conv = Conv(node)
    assert (conv.stride, conv.padding, conv.transposed) == ((2, 2), (1, 1), transposed)


@pytest.mark.parametrize("transposed", [False, True])
def test_emitted_conv_computes_and_knows_its_shape(transposed: bool) -> None:
    program = program_of(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), FRAME)
    (old,) = convs(program)
    weight, bias = torch.randn(4, 4, 3, 3), torch.randn(4)
    with program.graph.inserting_before(old):
        new = emit_conv(
            program, Conv(old).input, weight, bias, stride=2, padding=1, transposed=transposed
        )
    old.replace_all_uses_with(new)
    program.recompile()
    apply = torch.conv_transpose2d if transposed else torch.conv2d
    expected = apply(FRAME, weight, bias, stride=2, padding=1)
    torch.testing.assert_close(program(FRAME), expected.relu())
    assert shape(new) == tuple(expected.shape)
    assert is_conv(new)
    assert arguments(new)["groups"] == 1
