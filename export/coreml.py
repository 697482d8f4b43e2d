"""Core ML artifacts: ML Programs for iOS 17, fp32, fp16 and int8 (W8A8 with fp16 ends).

Nothing here runs them: only macOS can. What is checked is the saved package, reloaded.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from pockethdr.errors import first_line
from pockethdr.export.high_rank import without_high_rank_pairs
from pockethdr.export.program import within_half
from pockethdr.export.quiet import quiet
from pockethdr.export.targets import OUTPUT_NAME, TargetError, input_names
from pockethdr.files import atomic_path, sha256_of


def build(
    program: fx.GraphModule,
    frames: Sequence[Tensor],
    precision: str,
    path: Path,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write an mlpackage and return `ops`, `constexpr`, `float_ops` and `int8_mac_share`.

    Arguments and errors are those of `Target.build`. The package is the same on every run.
    """
    with atomic_path(path, overwrite=overwrite) as partial:
        try:
            with quiet(), torch.no_grad():
                if precision != "fp32":
                    program = within_half(program)
                if precision == "int8":
                    program = without_high_rank_pairs(program)
                _mlpackage_from_program(program, frames, precision, partial)
                _settle_identifiers(partial)
                return checks(partial, precision)
        except OSError:
            raise
        except Exception as error:
            raise TargetError(
                f"coremltools does not take this program: {first_line(error)}",
                expected="static core ATen operators",
                fix="set POCKETHDR_VERBOSE=1 for the converter's own words",
            ) from error


def _mlpackage_from_program(
    program: fx.GraphModule, frames: Sequence[Tensor], precision: str, path: Path
) -> None:
    import coremltools as ct

    exported = torch.export.export(program, tuple(frames)).run_decompositions({})
    compute = ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16
    model = ct.convert(
        exported,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=compute,
        skip_model_load=True,
        inputs=[
            ct.TensorType(name=name, shape=tuple(x.shape), dtype=float)
            for name, x in zip(input_names(frames), frames, strict=True)
        ],
        outputs=[ct.TensorType(name=OUTPUT_NAME, dtype=float)],
    )
    model.save(str(path))


def checks(path: Path, precision: str) -> dict[str, Any]:
    """What the saved package says when it is loaded again."""
    operations = _operations(path)
    counts = dict(sorted(Counter(op.type for op in operations if op.type != "const").items()))
    found: dict[str, Any] = {
        "ops": {k: n for k, n in counts.items() if not k.startswith("constexpr_")},
        "constexpr": {k: n for k, n in counts.items() if k.startswith("constexpr_")},
    }
    if precision == "int8":
        found |= _integer_checks(operations)
    return found


def _operations(path: Path) -> list[Any]:
    import coremltools as ct

    spec = ct.models.MLModel(str(path), skip_model_load=True).get_spec()
    function = spec.mlProgram.functions["main"]
    return list(function.block_specializations[function.opset].operations)


def _integer_checks(operations: list[Any]) -> dict[str, Any]:
    """Share of convolutions that read dequantized values and weights, and the float operators.

    `quantize`/`dequantize` pairs are what Core ML turns into integer arithmetic on devices that
    have it (A17 and M4 on); whether it does cannot be seen here.
    """
    makers = {output.name: op for op in operations for output in op.outputs}
    floats: Counter[str] = Counter()
    integer = total = 0
    for op in operations:
        if op.type in ("const", "quantize", "dequantize", "cast") or "constexpr" in op.type:
            continue
        is_integer = _is_integer(op, makers)
        macs = _macs(op, makers)
        total += macs
        integer += macs * is_integer
        if not is_integer:
            floats[op.type] += 1
    return {
        "int8_mac_share": integer / total if total else 0.0,
        "float_ops": dict(sorted(floats.items())),
    }


def _reads(op: Any, *names: str) -> list[str]:
    return [
        argument.name
        for name in names
        if name in op.inputs
        for argument in op.inputs[name].arguments
        if argument.name
    ]


def _is_integer(op: Any, makers: dict[str, Any]) -> bool:
    reads = _reads(op, "x", "y", "values", "weight")
    kinds = [makers[name].type for name in reads if name in makers and makers[name].type != "const"]
    if op.type in ("conv", "conv_transpose"):
        return len(kinds) == 2 and set(kinds) == {"dequantize", "constexpr_affine_dequantize"}
    if op.type == "relu" and len(kinds) == 1:
        return _is_integer(makers[reads[0]], makers) or kinds == ["dequantize"]
    return bool(kinds) and set(kinds) == {"dequantize"}


def _macs(op: Any, makers: dict[str, Any]) -> int:
    """Multiply-accumulates; weights are out×in×h×w, of a transposed convolution in×out×h×w."""
    if op.type not in ("conv", "conv_transpose"):
        return 0
    weight = _shape(makers[_reads(op, "weight")[0]].outputs[0])
    x = _reads(op, "x")[0]
    transposed = op.type == "conv_transpose"
    pixels = _shape(makers[x].outputs[0]) if transposed else _shape(op.outputs[0])
    return math.prod(pixels) * math.prod(weight) // weight[0]


def _shape(value: Any) -> list[int]:
    return [int(d.constant.size) for d in value.type.tensorType.dimensions]


def _settle_identifiers(path: Path) -> None:
    """Replace the package's random identifiers by ones made from its contents."""
    manifest = path / "Manifest.json"
    raw = json.loads(manifest.read_text(encoding="utf-8"))
    renamed = {}
    for old, item in raw["itemInfoEntries"].items():
        content = sha256_of(path / "Data" / item["path"])
        renamed[old] = str(uuid.uuid5(uuid.NAMESPACE_OID, item["path"] + content)).upper()
    raw["itemInfoEntries"] = {
        renamed[old]: item
        for old, item in sorted(raw["itemInfoEntries"].items(), key=lambda e: e[1]["path"])
    }
    raw["rootModelIdentifier"] = renamed[raw["rootModelIdentifier"]]
    manifest.write_text(json.dumps(raw, indent=4, sort_keys=True) + "\n", encoding="utf-8")
