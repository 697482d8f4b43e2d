"""TFLite artifacts: fp32, fp16 weights, int8 with an integer body and float ends, and dynint8.

Inputs are N×H×W×C float32 named short, mid, long; the output is N×H×W×C float32 named hdr.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from pockethdr.errors import first_line
from pockethdr.export.held_float import held_float
from pockethdr.export.last_convolutions import Step, last_convolutions
from pockethdr.export.own_dequantizes import own_dequantizes
from pockethdr.export.quiet import quiet
from pockethdr.export.targets import OUTPUT_NAME, TargetError, input_names
from pockethdr.export.tflite_file import CONV_INPUTS, opened
from pockethdr.export.weight_rounding import with_rounded_weights
from pockethdr.export.xnnpack import with_delegated_relus, with_rows_of_factors
from pockethdr.files import write_bytes


def build(
    program: fx.GraphModule,
    frames: Sequence[Tensor],
    precision: str,
    path: Path,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a TFLite file and return `ops`, `undelegated`, `float_ops` and `int8_mac_share`.

    Arguments and errors are those of `Target.build`. The bytes are the same on every run.
    """
    data = tflite_from_program(program, frames, integer=precision == "int8")
    if precision == "fp16":
        data = half_weights(data)
    elif precision == "dynint8":
        data = dynamic_range(data)
    found = checks(data, precision)
    write_bytes(path, data, overwrite=overwrite)
    return found


class ChannelsLast(torch.nn.Module):
    """A program with N×H×W×C inputs and output, so that a phone's frames need no transposing."""

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def forward(
        self, short: Tensor, mid: Tensor, long: Tensor, context: Tensor | None = None
    ) -> dict[str, Tensor]:
        frames = (short, mid, long) if context is None else (short, mid, long, context)
        hdr = self.program(*(x.permute(0, 3, 1, 2) for x in frames))
        return {OUTPUT_NAME: hdr.permute(0, 2, 3, 1)}


def tflite_from_program(
    program: fx.GraphModule, frames: Sequence[Tensor], *, integer: bool
) -> bytes:
    """The flatbuffer that LiteRT's converter makes of `program`."""
    try:
        with quiet(), torch.no_grad():
            import litert_torch

            inputs = {
                name: x.permute(0, 2, 3, 1).contiguous()
                for name, x in zip(input_names(frames), frames, strict=True)
            }
            if integer:
                program = own_dequantizes(held_float(with_rounded_weights(program)))
                program = with_delegated_relus(program)
            wrapped = ChannelsLast(with_rows_of_factors(program))
            model = litert_torch.convert(
                wrapped, sample_kwargs=inputs, quant_config=_integer_config() if integer else None
            )
            return bytes(model.model_content())
    except Exception as error:
        raise TargetError(
            f"LiteRT's converter does not take this program: {first_line(error)}",
            expected="static core ATen operators",
            fix="set POCKETHDR_VERBOSE=1 for the converter's own words",
        ) from error


def _integer_config() -> Any:
    """Tells the converter that the program's quantize/dequantize pairs are to become kernels."""
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig

    config = get_symmetric_quantization_config(is_per_channel=True)
    return QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(config))


def half_weights(data: bytes) -> bytes:
    """The same model with its constants stored as float16 behind a dequantize."""
    with quiet():
        from litert_quantizer import qtyping, recipe_manager

        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(
                num_bits=16, dtype=qtyping.TensorDataType.FLOAT
            ),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        )
        recipe = recipe_manager.RecipeManager()
        recipe.add_quantization_config(
            ".*", qtyping.TFLOperationName.ALL_SUPPORTED, config, "float_casting"
        )
    return _requantized(data, recipe.get_quantization_recipe())


def dynamic_range(data: bytes) -> bytes:
    """The same model with int8 weights, one scale for each output channel; the last stay float.

    Convolutions then measure the range of what they read at run time, and multiply integers.
    """
    file = opened(data)
    last = last_convolutions(
        [Step(name in CONV_INPUTS, op.inputs, op.outputs) for name, op in file.operators]
    )
    with quiet():
        from litert_quantizer import recipe, recipe_manager
        from litert_quantizer.algorithm_manager import AlgorithmName
        from litert_quantizer.qtyping import TFLOperationName

        rules = recipe_manager.RecipeManager()
        rules.load_quantization_recipe(recipe.dynamic_wi8_afp32())
        for position in last:
            result = file.tensors[file.operators[position][1].outputs[0]].name.decode()
            rules.add_quantization_config(
                f"^{re.escape(result)};$",  # the quantizer's name of an operator
                TFLOperationName.ALL_SUPPORTED,
                algorithm_key=AlgorithmName.NO_QUANTIZE,
            )
    return _requantized(data, rules.get_quantization_recipe())


def _requantized(data: bytes, recipe: list[dict[str, Any]]) -> bytes:
    with quiet():
        from litert_quantizer import quantizer

        return bytes(quantizer.Quantizer(bytearray(data), recipe).quantize().quantized_model)


@dataclass(frozen=True)
class Operator:
    """One operator of a flatbuffer: its name, what it writes, and whether it multiplies integers.

    With integer weights it does: what it reads is integer, or is made so as it runs.
    """

    name: str
    writes: str
    macs: int
    integer: bool


def checks(data: bytes, precision: str) -> dict[str, Any]:
    """What the file itself says: operators by result type, what XNNPACK leaves, integer share."""
    operators = operators_of(data)
    found: dict[str, Any] = {
        "ops": _counted(f"{op.name}:{op.writes}" for op in operators),
        "undelegated": undelegated(data),
    }
    if precision in ("int8", "dynint8"):
        total = sum(op.macs for op in operators)
        integer = sum(op.macs for op in operators if op.integer)
        found["int8_mac_share"] = integer / total if total else 0.0
    if precision == "int8":
        found["float_ops"] = _counted(
            op.name
            for op in operators
            if op.writes == "float32" and op.name not in ("QUANTIZE", "DEQUANTIZE")
        )
    return found


def operators_of(data: bytes) -> list[Operator]:
    """The operators of the main subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    types = {v: k.lower() for k, v in vars(schema.TensorType).items() if not k.startswith("_")}
    file = opened(data)
    operators = []
    for name, op in file.operators:
        inputs = [file.tensors[i] for i in op.inputs if i >= 0]
        output = file.tensors[op.outputs[0]]
        macs = _macs(name, inputs, output)
        integer = macs > 0 and types[inputs[1].type] == "int8"
        operators.append(Operator(name, types[output.type], macs, integer))
    return operators


def _macs(name: str, inputs: list[Any], output: Any) -> int:
    """Multiply-accumulates; weights are out×h×w×in, of a depthwise convolution 1×h×w×out."""
    if name not in CONV_INPUTS:
        return 0
    weight = [int(n) for n in inputs[1].shape]
    pixels = inputs[2] if name == "TRANSPOSE_CONV" else output
    channels = weight[3] if name != "CONV_2D" else weight[0]
    return math.prod(int(n) for n in pixels.shape) * math.prod(weight) // channels


def undelegated(data: bytes) -> dict[str, int]:
    """Operators that XNNPACK leaves to the reference kernels, by name."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet():
            interpreter = Interpreter(model_content=data, num_threads=1)
            interpreter.allocate_tensors()
            details = interpreter._get_ops_details()
    except (ValueError, RuntimeError) as error:
        raise TargetError(
            f"LiteRT does not run what its converter made of this program: {first_line(error)}",
            expected="operators that LiteRT has kernels for",
            fix="write this part otherwise, or leave tflite out of --targets",
        ) from error
    taken = _delegated(details)
    return _counted(
        op["op_name"]
        for index, op in enumerate(details)
        if op["op_name"] != "DELEGATE" and index not in taken
    )


def _delegated(details: list[dict[str, Any]]) -> set[int]:
    """Indices of operators inside a delegate: on the way back from its outputs to its inputs."""
    makers = {
        int(t): i
        for i, op in enumerate(details)
        for t in op["outputs"]
        if op["op_name"] != "DELEGATE"
    }
    taken: set[int] = set()
    for delegate in (op for op in details if op["op_name"] == "DELEGATE"):
        inputs = {int(t) for t in delegate["inputs"]}
        pending = [int(t) for t in delegate["outputs"]]
        while pending:
            maker = makers.get(pending.pop())
            if maker is not None and maker not in taken:
                taken.add(maker)
                reads = (int(t) for t in details[maker]["inputs"])
                pending += [t for t in reads if t >= 0 and t not in inputs]
    return taken


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
