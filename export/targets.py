"""The one table of targets. The CLI's choices, the documentation and the tests are read from it.

Reading the table needs no torch: `doctor` says what is missing on hosts that lack it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pockethdr.errors import PocketError, Unavailable
from pockethdr.export.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor, fx

INPUT_NAMES = ("short", "mid", "long")
OUTPUT_NAME = "hdr"
#: Of networks that look at the whole image: what was computed once a shot, see `context.py`.
CONTEXT_NAME = "context"


def input_names(frames: Sequence[Any]) -> list[str]:
    """The names of a program's inputs: the frames, and the context where there is one."""
    return [*INPUT_NAMES, CONTEXT_NAME][: len(frames)]


class TargetError(PocketError):
    """An unknown target or precision, or a program that a target's converter does not take."""


@dataclass(frozen=True)
class Target:
    """One row.

    Attributes:
        name: as in `--targets`.
        suffix: of the artifact, which is a folder for Core ML.
        precisions: what it can be built at.
        layout: of the artifact's inputs and output.
        scheme: how its INT8 program is written.
        needs: (import name, …) that must be present; one of each tuple is enough.
        install: the line that brings them.
        module: the file here that holds `build`.
        host: `module:function` that says what else this host lacks, by raising Unavailable.
    """

    name: str
    suffix: str
    precisions: tuple[str, ...]
    layout: str
    scheme: Scheme
    needs: tuple[tuple[str, ...], ...]
    install: str
    module: str
    host: str = ""

    def build(
        self,
        program: fx.GraphModule,
        frames: Sequence[Tensor],
        precision: str,
        path: Path,
        *,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write the artifact to `path` and return its checks.

        Args:
            program: static core ATen program; for `int8`, the one from `quantized` with
                `self.scheme`.
            frames: short, mid, long: float32 N×C×H×W, the shapes the artifact is fixed to.
            precision: one of `self.precisions`.
            path: where to; never overwritten unless `overwrite`.

        Raises:
            Unavailable: this host cannot build it.
            TargetError: the precision does not exist here, or the converter fails.
            PocketError: `path` cannot be written.
        """
        self.check_precision(precision)
        self.require()
        builder: Callable[..., dict[str, Any]] = importlib.import_module(self.module).build
        return builder(program, frames, precision, path, overwrite=overwrite)

    def check_precision(self, precision: str) -> None:
        if precision not in self.precisions:
            raise TargetError(
                f"{self.name} has no {precision}", expected=f"one of {', '.join(self.precisions)}"
            )

    def require(self) -> None:
        """Raise Unavailable when a needed package, or what it needs of the host, is missing."""
        for names in self.needs:
            if not any(importlib.util.find_spec(name) for name in names):
                raise Unavailable(f"{' or '.join(names)} is not installed", install=self.install)
        if self.host:
            module, function = self.host.split(":")
            getattr(importlib.import_module(module), function)()


#: `dynint8`: integer weights, and the range of what each convolution reads measured as it runs.
PRECISIONS = ("fp32", "fp16", "int8", "dynint8")

#: Everything between the float ends is integer: what phone kernels run.
#: LiteRT's converter reverses a transposed kernel after its dequantize and misses the pattern; a
#: float one between pairs it makes integer by itself, see `kernels`.
LITERT_INT8 = Scheme(
    "body asymmetric",
    "body",
    symmetric=False,
    fold_weights=False,
    transposed=False,
    float_joins=False,
)
COREML_INT8 = Scheme("body asymmetric", "body", symmetric=False, fold_weights=True)
#: ONNX Runtime takes zero-points; TensorRT, which does not, gets a program of its own.
ONNX_INT8 = Scheme("body asymmetric", "body", symmetric=False, fold_weights=True)
TENSORRT_INT8 = Scheme("convolution inputs symmetric", "inputs", symmetric=True, fold_weights=True)

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="onnx",
            suffix=".onnx",
            precisions=PRECISIONS,
            layout="NCHW",
            scheme=ONNX_INT8,
            needs=(("onnx",), ("onnxscript",)),
            install="pip install 'pockethdr[onnx]'",
            module="pockethdr.export.onnx",
        ),
        Target(
            name="tflite",
            suffix=".tflite",
            precisions=PRECISIONS,
            layout="NHWC",
            scheme=LITERT_INT8,
            needs=(("litert_torch",), ("litert_quantizer",), ("ai_edge_litert",)),
            install="pip install 'pockethdr[tflite-build]'",
            module="pockethdr.export.tflite",
        ),
        Target(
            name="coreml",
            suffix=".mlpackage",
            precisions=("fp32", "fp16", "int8"),
            layout="NCHW",
            scheme=COREML_INT8,
            needs=(("coremltools",),),
            install="pip install 'pockethdr[coreml]'",
            module="pockethdr.export.coreml",
        ),
        Target(
            name="tensorrt",
            suffix=".plan",
            precisions=("fp16", "int8"),
            layout="NCHW",
            scheme=TENSORRT_INT8,
            needs=(("tensorrt", "tensorrt_rtx_bindings"), ("onnx",), ("onnxscript",)),
            install="pip install 'pockethdr[tensorrt]'",
            module="pockethdr.export.tensorrt",
            host="pockethdr.export.tensorrt_backend:backend_name",
        ),
    )
}


def target_of(name: str) -> Target:
    """The row called `name`."""
    if name not in TARGETS:
        raise TargetError(f"unknown target `{name}`", expected=f"one of {', '.join(TARGETS)}")
    return TARGETS[name]
