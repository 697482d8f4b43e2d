"""TFLite files as their schema reads them. Without torch, and without running them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Positions of the input and of the bias among what each convolution reads; weights are second.
CONV_INPUTS = {"CONV_2D": (0, 2), "DEPTHWISE_CONV_2D": (0, 2), "TRANSPOSE_CONV": (2, 3)}


@dataclass(frozen=True)
class TfliteFile:
    """The main subgraph of a file; `operators` are (name, as the schema has it), in file order."""

    operators: list[tuple[str, Any]]
    tensors: list[Any]
    buffers: list[Any]


def opened(data: bytes) -> TfliteFile:
    """Parse a flatbuffer."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
    # Files of old writers hold the code in the narrow field alone.
    kinds = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    operators = [(kinds[op.opcodeIndex], op) for op in graph.operators]
    return TfliteFile(operators, graph.tensors, model.buffers)
