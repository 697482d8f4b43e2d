"""Dynamic convolutions written in many styles become static ones, exactly."""

from __future__ import annotations

import time
from collections.abc import Callable

import dynamic_layers as layers
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pockethdr.export.algebra import Constant, Label, NotAligned, contracted, size_of
from pockethdr.export.aten import shape
from pockethdr.export.constants import Constants
from pockethdr.export.lowering import Lowering
from pockethdr.export.lowrank import LowRank, Solution, dynamic_convolutions, solve
from pockethdr.export.planning import Plan
from pockethdr.export.rewrite import Rewritten, apply_rewrites
from pockethdr.export.rewrites.rank import ReduceRank
from pockethdr.export.trace import traced
from pockethdr.models.dynamic_conv import PIXEL, DynamicConv, DynamicSpec
from pockethdr.models.reference import PerPixelKernels

STYLES: dict[str, Callable[[], nn.Module]] = {
    "dcd-paper": layers.DcdPaper,
    "dcd-paper-stride2-k5": lambda: layers.DcdPaper(k=5, stride=2),
    "einsum": layers.EinsumKernel,
    "einsum-no-bias": lambda: layers.EinsumKernel(bias=False),
    "einsum-k1": lambda: layers.EinsumKernel(k=1),
    "einsum-k5": lambda: layers.EinsumKernel(k=5),
    "einsum-stride2": lambda: layers.EinsumKernel(stride=2),
    "einsum-dilation2": lambda: layers.EinsumKernel(dilation=2),
    "einsum-groups2": lambda: layers.EinsumKernel(groups=2),
    "einsum-wide-q": lambda: layers.EinsumKernel(wide_q=True),
    "einsum-narrow": lambda: layers.EinsumKernel(c=16, out=10),
    "bmm": layers.BmmKernel,
    "condconv": layers.CondConv,
    "condconv-k1": lambda: layers.CondConv(k=1),
    "modulated": lambda: layers.ModulatedConv(demodulate=False),
    "demodulated": layers.ModulatedConv,
    "pixel-einsum": layers.PixelEinsum,
    "pixel-mulsum": lambda: layers.PixelEinsum(layout="mulsum"),
    "pixel-matmul-nhwc": lambda: layers.PixelEinsum(layout="nhwc"),
    "pixel-unfold": layers.PixelUnfold,
    "involution": layers.Involution,
}
ONE_IMAGE: dict[str, Callable[[], nn.Module]] = {
    "linear-view": layers.LinearKernel,
    "lambda-both-sides": layers.ScaledKernel,
    "block-diag-assembled": lambda: layers.BlockDiagonal(assembled=True),
    "block-diag-einsum": lambda: layers.BlockDiagonal(assembled=False),
    "depthwise": layers.DynamicDepthwise,
}


SPELLED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ellipsis": lambda a, w: torch.einsum("k,k...->...", a, w),
    "implicit": lambda a, w: torch.einsum("k,koihw", a, w),
    "tensordot": lambda a, w: torch.tensordot(a, w, dims=([0], [0])),
    "rsub": lambda a, w: 1 - torch.einsum("k,koihw->oihw", a, w),
    "roll": lambda a, w: torch.einsum("k,koihw->oihw", a, w).roll((1, -1), (2, 3)),
    "tile": lambda a, w: torch.einsum("k,koihw->oihw", a, w[:, :4]).tile(2, 1, 1, 1),
    "cast": lambda a, w: torch.einsum("k,koihw->oihw", a, w).type_as(w),
    "outer": lambda a, w: torch.outer(a, w.flatten(1).sum(0)).sum(0).view(8, 8, 3, 3),
    "mean": lambda a, w: (k := torch.einsum("k,koihw->oihw", a, w)) - k.mean(),
}


def rewritten(layer: nn.Module, batch: int) -> tuple[Rewritten, Tensor]:
    torch.manual_seed(0)
    frames = [example_of(layer, batch) for _ in range(2)]
    program = traced(layer, frames[0])
    return apply_rewrites(program, [LowRank(), ReduceRank()], frames), frames[0][0]


def example_of(layer: nn.Module, batch: int = 1) -> tuple[Tensor]:
    channels = next(p for p in (16, 8, 6, 24) if _accepts(layer, p))
    return (torch.randn(batch, channels, 12, 10),)


def _accepts(layer: nn.Module, channels: int) -> bool:
    try:
        layer(torch.randn(1, channels, 12, 10, dtype=next(layer.parameters()).dtype))
    except RuntimeError:
        return False
    return True


def assert_static(program: fx.GraphModule) -> None:
    """No convolution has a run-time kernel, and nothing but a view has rank 5 or more."""
    assert dynamic_convolutions(program) == []
    constants = Constants(program)
    for node in program.graph.nodes:
        if node.op == "call_function" and constants.value(node) is None:
            several = isinstance(node.meta["val"], tuple)  # a batch norm
            assert several or is_view(node) or len(shape(node)) <= 4, node.format_node()


def is_view(node: fx.Node) -> bool:
    return any(word in str(node.target) for word in ("view", "reshape", "unbind", "unsqueeze"))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_becomes_static(style: str, batch: int) -> None:
    layer = STYLES[style]().eval()
    done, x = rewritten(layer, batch)
    assert done.refusals == []
    assert done.proofs
    assert max(proof.max_relative_error for proof in done.proofs) <= 1e-10
    assert_static(done.program)
    with torch.no_grad():
        torch.testing.assert_close(done.program(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("style", ONE_IMAGE)
def test_layers_for_one_image_become_static(style: str) -> None:
    done, _ = rewritten(ONE_IMAGE[style]().eval(), 1)
    assert done.refusals == []
    assert max(proof.max_relative_error for proof in done.proofs) <= 1e-10
    assert_static(done.program)


@pytest.mark.parametrize("spelling", SPELLED)
def test_linear_spellings_are_seen_through(spelling: str) -> None:
    done, _ = rewritten(layers.Spelled(SPELLED[spelling]).eval(), 1)
    assert done.refusals == []
    assert "`select` per image" in done.proofs[0].detail


def test_a_kernel_cropped_by_negative_padding() -> None:
    def cropped(a: Tensor, w: Tensor) -> Tensor:
        return F.pad(torch.einsum("k,koihw->oihw", a, w), (-1, -1, -2, 0))

    done, _ = rewritten(layers.Spelled(cropped, (4, 8, 8, 5, 5)).eval(), 1)
    assert done.refusals == []
    assert_static(done.program)


def test_a_free_kernel_is_refused_with_its_line_and_reason() -> None:
    done, _ = rewritten(layers.FreeKernel().eval(), 1)
    (refusal,) = done.refusals
    assert refusal.op == "aten.conv2d"
    assert refusal.source.startswith("dynamic_layers.py:")
    assert "softmax" in refusal.reason
    assert "latent channels" in refusal.reason
    assert len(dynamic_convolutions(done.program)) == 1


def test_a_kernel_without_a_rule_is_not_called_nonlinear() -> None:
    def written(a: Tensor, w: Tensor) -> Tensor:
        return torch.cumsum(torch.einsum("k,koihw->oihw", a, w), 1)

    done, _ = rewritten(layers.Spelled(written, (4, 24, 8, 5, 5)).eval(), 1)
    (refusal,) = done.refusals
    assert "`cumsum` (aten.cumsum) has no rule (einsum or matmul have one)" in refusal.reason


def test_a_sum_is_not_named_where_what_it_adds_is_to_blame() -> None:
    def written(a: Tensor, w: Tensor) -> Tensor:
        return 1 + torch.tanh(torch.einsum("k,koihw->oihw", a, w))

    done, _ = rewritten(layers.Spelled(written, (4, 24, 8, 5, 5)).eval(), 1)
    (refusal,) = done.refusals
    assert "`tanh` (aten.tanh) is not linear" in refusal.reason


def test_attention_is_no_dynamic_convolution() -> None:
    done, _ = rewritten(layers.Attention().eval(), 2)
    assert done.proofs == []
    assert done.refusals == []


def test_a_kernel_for_every_pixel_is_found_in_its_sum() -> None:
    spec = DynamicSpec(8, 8, 8, 2, 2, 4, PIXEL)
    layer = Conditioned(PerPixelKernels(DynamicConv(spec))).eval()
    done, _ = rewritten(layer, 2)
    assert [proof.rewrite for proof in done.proofs[:1]] == ["lowrank"]
    assert done.refusals == []
    assert "im2col" not in str(done.program.graph)


class Conditioned(nn.Module):
    """A filter conditioned on its own input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, x)


def test_a_wide_product_stays_a_product() -> None:
    done, _ = rewritten(layers.ChannelAttention().eval(), 2)
    assert done.proofs == []
    (refusal,) = done.refusals
    assert refusal.reason.startswith("left as a matrix product: 576 latent channels")
    assert dynamic_convolutions(done.program) == []


@pytest.mark.parametrize("style", STYLES | ONE_IMAGE)
def test_what_is_emitted_costs_what_was_planned(style: str) -> None:
    """No more, that is: borders of zeros are cut off kernels, terms that share data are summed."""
    layer = (STYLES | ONE_IMAGE)[style]().eval().double()
    program = traced(layer, [x.double() for x in example_of(layer)])
    for place in list(LowRank().pattern(program)):
        solution = solve(place, program)
        assert isinstance(solution, Solution)
        lowering = Lowering(program, solution.roles)
        with program.graph.inserting_before(place):
            lowering.emitted(solution.value, solution.plans, like=place)
        assert lowering.macs["pixel"] <= sum(convolved(plan) for plan in solution.plans)


def convolved(plan: Plan) -> float:
    """Multiply-accumulates of a plan's convolutions for each pixel, without products with Φ."""
    return plan.macs - size_of(plan.latent) * len(plan.core)


def test_a_depthwise_kernel_takes_a_depthwise_convolution() -> None:
    done, _ = rewritten(layers.DynamicDepthwise().eval(), 1)
    kernels = [tuple(b.shape) for _, b in done.program.named_buffers() if b.dim() == 4]
    assert kernels == [(72, 1, 3, 3), (8, 9, 1, 1)]


def test_what_runs_once_an_image_is_counted_apart() -> None:
    done, _ = rewritten(layers.CondConv(experts=4).eval(), 1)
    assert "; 10,240 MAC per pixel, 64 MAC per image" in done.proofs[0].detail


def test_attention_over_kernels_stores_little_more_than_they_hold() -> None:
    layer = layers.OdConv().eval()
    done, _ = rewritten(layer, 1)
    assert done.refusals == []
    stored = sum(buffer.numel() for buffer in done.program.buffers())
    assert stored < 4 * layer.weight.numel()


def test_a_sum_that_takes_more_weights_than_it_reads_values_stays_a_sum() -> None:
    done, _ = rewritten(layers.OdConv(rectified=True).eval(), 1)
    (refusal,) = done.refusals
    assert refusal.reason == "left as a sum: of 2,304 values it would take 1,327,104 weights"
    assert dynamic_convolutions(done.program) == []


def test_more_labels_than_einsum_knows_are_not_aligned() -> None:
    labels = tuple(Label(1) for _ in range(53))
    ones = Constant(torch.ones([1] * 53, dtype=torch.float64), labels)
    with pytest.raises(NotAligned, match="53 labels at once, at most 52"):
        contracted([ones], labels)


def test_condconv_keeps_one_convolution_for_each_expert() -> None:
    done, _ = rewritten(layers.CondConv(experts=4).eval(), 1)
    kernels = [tuple(b.shape) for n, b in done.program.named_buffers() if b.dim() == 4]
    assert (4 * 16, 16, 3, 3) in kernels


def test_modulation_costs_no_more_than_its_convolution() -> None:
    done, _ = rewritten(layers.ModulatedConv(demodulate=False).eval(), 1)
    kernels = [tuple(b.shape) for _, b in done.program.named_buffers() if b.dim() == 4]
    assert kernels == [(12, 8, 3, 3)]


class Gated(nn.Module):
    """Gates of gates: written out, four blocks are a sum of millions of products."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3 * blocks))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        for i in range(0, len(self.layers), 3):
            a, b, o = self.layers[i : i + 3]
            x = x + o(a(x) * b(x))
        return x.permute(0, 3, 1, 2)


def test_gates_of_gates_are_left_alone_before_long() -> None:
    program = traced(Gated(4).eval(), (torch.randn(1, 8, 12, 10),))
    begin = time.process_time()
    assert list(LowRank().pattern(program)) == []
    assert time.process_time() - begin < 60


class Deep(nn.Module):
    """More operators in a row than Python has stack."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(110))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x)) * 0.2 + x
        return x


def test_networks_deeper_than_the_stack() -> None:
    program = traced(Deep().eval(), (torch.randn(1, 4, 4, 4),))
    assert dynamic_convolutions(program) == []
    assert list(LowRank().pattern(program)) == []


class Unfolded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        taps = F.unfold(self.first(x)[0], 3, padding=1)
        weighted = (taps * torch.tanh(taps.mean(1, keepdim=True))).sum(0)
        return weighted.reshape(1, 1, *x.shape[2:])


def test_an_image_without_a_batch_is_unfolded_by_no_rule() -> None:
    done, _ = rewritten(Unfolded().eval(), 1)
    assert done.proofs == []
