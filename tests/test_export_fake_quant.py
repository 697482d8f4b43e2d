"""What is rounded in training is what is rounded in the artifact."""

import importlib.util
from pathlib import Path

import pytest
import torch

from pockethdr.export.fake_quant import LearnedRange, learned_ranges, trainable
from pockethdr.export.qparams import params_of
from pockethdr.export.quantize import quantized
from pockethdr.export.recipe import RECIPES
from pockethdr.export.targets import LITERT_INT8

_spec = importlib.util.spec_from_file_location(
    "export_toy", Path(__file__).with_name("export_toy.py")
)
assert _spec
assert _spec.loader
nets = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(nets)


@pytest.fixture
def placed() -> torch.fx.GraphModule:
    program = nets.toy()
    ranges = nets.ranges_of(program)
    return quantized(program, ranges, RECIPES["hdr-ends"], LITERT_INT8).program


def test_before_training_it_computes_what_the_pairs_compute(placed: torch.fx.GraphModule) -> None:
    network = trainable(placed, weights="minmax")
    found, expected = nets.run(network, nets.frames()), nets.run(placed, nets.frames())
    assert nets.psnr(found, expected) > 80


def test_after_training_the_artifact_computes_what_was_trained(
    placed: torch.fx.GraphModule,
) -> None:
    network, frames = trainable(placed, weights="minmax"), nets.frames()
    optimiser = torch.optim.SGD(network.parameters(), 1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        network(*frames).square().mean().backward()
        optimiser.step()
    program = nets.toy()
    tuned = torch.fx.GraphModule(program, program.graph)
    tuned.load_state_dict(network.state_dict(), strict=False)
    ranges = {**nets.ranges_of(program), **learned_ranges(network)}
    again = quantized(tuned, ranges, RECIPES["hdr-ends"], LITERT_INT8).program
    assert nets.psnr(nets.run(again, frames), nets.run(network, frames)) > 80
    assert nets.psnr(nets.run(again, frames), nets.run(placed, frames)) < 80  # it did learn


def test_values_that_share_a_scale_share_a_parameter(placed: torch.fx.GraphModule) -> None:
    network = trainable(placed, weights="minmax")
    cat = next(node for node in network.graph.nodes if "aten.cat" in str(node.target))
    assert len({node.target for node in cat.all_input_nodes}) == 1
    assert len(set(learned_ranges(network).values())) > 5


def test_a_range_is_written_as_the_artifact_will_have_it() -> None:
    module = LearnedRange(-0.7, 2.1, ("x",))
    with torch.no_grad():
        module.ends.mul_(torch.tensor([1.03, 0.98]))
    low, high = module.range()
    params = params_of(low, high, symmetric=False)
    assert params.scale == pytest.approx((2.1 * 0.98 + 0.7 * 1.03) / 255, rel=1e-6)
    x = torch.linspace(-1, 3, 999)
    rounded = torch.fake_quantize_per_tensor_affine(x, params.scale, params.zero, -128, 127)
    torch.testing.assert_close(module(x).detach(), rounded, atol=1e-6, rtol=0)


def test_a_positive_range_keeps_its_zero_and_both_ends_learn() -> None:
    positive, both = LearnedRange(0.0, 1.0, ("x",)), LearnedRange(-1.0, 1.0, ("x",))
    for module in (positive, both):
        module(torch.linspace(-3, 2, 99)).square().sum().backward()
    assert positive.ends.grad is not None
    assert positive.ends.grad[0] == 0
    assert positive.range()[0] == 0
    assert both.ends.grad is not None
    assert (both.ends.grad != 0).all()
