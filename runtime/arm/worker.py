"""Runs inside the emulated ARM Python of `arm/tools.py`, which has LiteRT and NumPy alone.

`worker.py ARTIFACT FRAMES OUT FLAGS`: FRAMES is an .npz of what the artifact takes, by name:
`short`, `mid`, `long`, and the `context` of networks that have one, each a stack of tiles in the
tensor's own type. OUT is the .npy of what it returns; FLAGS are XNNPACK's (4 forces FP16
arithmetic, 0 changes nothing).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import CpuOptions, Options

_SIGNATURE, _OUTPUT = "serving_default", "hdr"


def main(artifact: str, frames: str, out: str, flags: str) -> None:
    cpu = CpuOptions(num_threads=1, xnnpack_flags=int(flags)) if int(flags) else None
    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
    model = CompiledModel.from_file(artifact, options=options)
    stacks = _inputs(model, frames)
    tiles = zip(*stacks.values(), strict=True)
    np.save(out, np.stack([_run(model, dict(zip(stacks, tile, strict=True))) for tile in tiles]))


def _inputs(model: Any, frames: str) -> dict[str, np.ndarray]:
    """A stack for each input of the signature: one that nothing is written to would be zeros."""
    given = dict(np.load(frames))
    details = model.get_input_tensor_details(_SIGNATURE)
    wanted = {name: f"{each['dtype']} {each['shape'][1:]}" for name, each in details.items()}
    found = {name: f"{stack.dtype} {list(stack.shape[1:])}" for name, stack in given.items()}
    if found != wanted:
        raise SystemExit(f"takes {wanted}, was given {found}")
    return given


def _run(model: Any, tile: dict[str, np.ndarray]) -> np.ndarray:
    """One tile of H×W×C frames → its output, flat, in the tensor's own type."""
    inputs = {name: model.create_input_buffer_by_name(_SIGNATURE, name) for name in tile}
    output = model.create_output_buffer_by_name(_SIGNATURE, _OUTPUT)
    for name, buffer in inputs.items():
        buffer.write(np.ascontiguousarray(tile[name]))
    model.run_by_name(_SIGNATURE, inputs, {_OUTPUT: output})
    kind = np.dtype(model.get_output_tensor_details(_SIGNATURE)[_OUTPUT]["dtype"])
    bytes_ = model.get_output_buffer_requirements(0, 0)["buffer_size"]
    return np.array(output.read(int(bytes_) // kind.itemsize, kind.type))


if __name__ == "__main__":
    main(*sys.argv[1:])
