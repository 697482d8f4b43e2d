"""Scales and zero-points as the targets' kernels have them, one for all values that share it."""

import export_toy as nets
import pytest

from pockethdr.export.qparams import FIXED, Params, RangeError, SharedRanges, params_of


@pytest.mark.parametrize(
    ("low", "high", "symmetric", "expected"),
    [
        (-1.0, 1.55, False, Params(0.01, -28)),
        (0.5, 2.55, False, Params(0.01, -128)),
        (-2.55, -1.0, False, Params(0.01, 127)),
        (-0.5, 1.27, True, Params(0.01, 0)),
        (-1.27, 0.0, True, Params(0.01, 0)),
        (0.0, 0.0, False, Params(1 / 255, 0)),
    ],
)
def test_scale_and_zero_point(low: float, high: float, symmetric: bool, expected: Params) -> None:
    params = params_of(low, high, symmetric=symmetric)
    assert params.scale == pytest.approx(expected.scale)
    assert params.zero == expected.zero


@pytest.fixture
def shared() -> tuple[dict[str, object], SharedRanges]:
    program = nets.toy()
    ranges = {**nets.ranges_of(program), "mul": (-1.0, 2.0), "add": (-3.0, 1.0)}
    nodes = {node.name: node for node in program.graph.nodes}
    return nodes, SharedRanges(ranges, margin=1.0, symmetric=False)


def test_values_that_share_have_the_range_of_all(shared: tuple) -> None:
    nodes, ranges = shared
    ranges.share(nodes["mul"], nodes["add"])
    both = [ranges.params(nodes[name]) for name in ("mul", "add")]
    assert both == [params_of(-3.0, 2.0, symmetric=False)] * 2
    assert both[0].of == {"mul", "add"}


def test_a_fixed_scale_is_that_of_all_that_share_it(shared: tuple) -> None:
    nodes, ranges = shared
    ranges.share(nodes["tanh"], nodes["mul"])
    assert ranges.params(nodes["mul"]) == FIXED["aten.tanh"][False]


def test_a_range_that_is_none_is_named(shared: tuple) -> None:
    nodes, ranges = shared
    broken = SharedRanges({**ranges.ranges, "mul": (2.0, 1.0)}, margin=1.0, symmetric=False)
    with pytest.raises(RangeError, match=r"range of `mul` is \[2.0, 1.0\]"):
        broken.params(nodes["mul"])
