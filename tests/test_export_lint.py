"""Every rule of the Q/DQ lint is broken once."""

from collections.abc import Callable

import export_toy as nets
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import helper, numpy_helper  # noqa: E402

from pockethdr.export.onnx import onnx_from_program  # noqa: E402
from pockethdr.export.qdq_lint import lint  # noqa: E402
from pockethdr.export.quantize import quantized  # noqa: E402
from pockethdr.export.recipe import RECIPES  # noqa: E402
from pockethdr.export.targets import ONNX_INT8, TENSORRT_INT8  # noqa: E402


def _model(
    *,
    op: str = "Conv",
    codes: type = np.int8,
    zero: int = 0,
    scale: object = 0.1,
    weight_axis: int | None = None,
    bias: bool = False,
) -> "onnx.ModelProto":
    """x → Q → DQ → convolution with a dequantized 4×4×3×3 weight; one thing of it may be wrong."""
    axis = (1 if op == "ConvTranspose" else 0) if weight_axis is None else weight_axis
    constants = {
        "scale": np.asarray(scale, np.float32),
        "zero": np.full(np.shape(scale), zero, codes),
        "weight": np.ones((4, 4, 3, 3), np.int8),
        "weight_scale": np.full(4, 0.01, np.float32),
        "weight_zero": np.zeros(4, np.int8),
        "bias": np.ones(4, np.int32),
        "bias_scale": np.full(4, 0.001, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], "quantize", axis=1),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], "dequantize", axis=1),
        helper.make_node(
            "DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], "w", axis=axis
        ),
    ]
    inputs = ["d", "w"]
    if bias:
        nodes.append(helper.make_node("DequantizeLinear", ["bias", "bias_scale"], ["b"], "b"))
        inputs.append("b")
    nodes.append(helper.make_node(op, inputs, ["y"], "conv"))
    x, y = (helper.make_tensor_value_info(n, 1, [1, 4, 8, 8]) for n in "xy")
    graph = helper.make_graph(
        nodes, "g", [x], [y], [numpy_helper.from_array(v, k) for k, v in constants.items()]
    )
    return helper.make_model(graph)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_right_file_has_no_findings(op: str) -> None:
    assert lint(_model(op=op)) == []


@pytest.mark.parametrize(
    ("broken", "rule", "node", "fix"),
    [
        (lambda: _model(zero=3), "zero-point", "quantize", "symmetric"),
        (lambda: _model(codes=np.uint8), "uint8", "quantize", "INT8"),
        (lambda: _model(bias=True), "int32 bias", "b", "QuantizeBias=False"),
        (lambda: _model(scale=0.0), "scale", "quantize", "calibrate"),
        (lambda: _model(scale=float("nan")), "scale", "quantize", "calibrate"),
        (lambda: _model(scale=[0.1] * 4), "per-channel activation", "quantize", "one scale"),
        (lambda: _model(weight_axis=1), "axis", "w", "axis 0"),
        (lambda: _model(op="ConvTranspose", weight_axis=0), "axis", "w", "axis 1"),
    ],
)
def test_each_defect_is_found(
    broken: Callable[[], "onnx.ModelProto"], rule: str, node: str, fix: str
) -> None:
    findings = lint(broken())
    assert {finding.rule for finding in findings} == {rule}
    assert findings[0].node == node
    assert fix in findings[0].fix


def test_a_computed_scale_is_found() -> None:
    model = _model()
    model.graph.node.insert(0, helper.make_node("Identity", ["scale"], ["computed"]))
    model.graph.node[1].input[1] = "computed"
    assert [finding.rule for finding in lint(model)] == ["dynamic scale"]


def _residual(*, scale: float, shared: bool) -> "onnx.ModelProto":
    """conv(x) + x: the skip has a scale of 0.1 and, where shared, is what the convolution reads."""
    model = _model()
    nodes, constants = model.graph.node, model.graph.initializer
    constants.append(numpy_helper.from_array(np.asarray(scale, np.float32), "other_scale"))
    nodes.extend(
        [
            helper.make_node("QuantizeLinear", ["y", "other_scale", "zero"], ["yq"], "yq"),
            helper.make_node("DequantizeLinear", ["yq", "other_scale", "zero"], ["yd"], "yd"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["own"], "own"),
            helper.make_node("Add", ["d" if shared else "own", "yd"], ["sum"], "sum"),
        ]
    )
    return model


def test_a_skip_that_shares_its_codes_is_found() -> None:
    (finding,) = lint(_residual(scale=0.2, shared=True))
    assert (finding.rule, finding.node) == ("shared skip", "dequantize")
    assert "sum" in finding.what
    assert "one scale" in finding.fix
    assert lint(_residual(scale=0.1, shared=True)) == []
    assert lint(_residual(scale=0.2, shared=False)) == []


def test_our_own_files() -> None:
    program = nets.toy(end="transposed")
    ranges = nets.ranges_of(program)
    for scheme, rules in (
        (TENSORRT_INT8, set()),
        (ONNX_INT8, {"zero-point", "shared skip"}),
    ):
        done = quantized(program, ranges, RECIPES["hdr-ends"], scheme)
        findings = lint(onnx_from_program(done.program, nets.frames(), "int8"))
        assert {finding.rule for finding in findings} == rules
