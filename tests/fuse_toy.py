"""A tiny network of two convolutions in an export folder, for the tests of fusing."""

from __future__ import annotations

import json

import numpy as np

from pockethdr.files import sha256_of

RADIUS = 2
CHANNELS = {"raw": (8, 4), "rgb": (6, 3)}


def exported(folder, domain, size, *, halo=RADIUS, gain=1.0):
    """An ONNX network of two 3×3 convolutions (receptive radius 2) in an export folder."""
    from onnx import TensorProto, helper, numpy_helper

    inputs, outputs = CHANNELS[domain]
    generator = np.random.default_rng(2)
    first = generator.normal(0, 0.2, (6, 3 * inputs, 3, 3)).astype(np.float32)
    last = gain * generator.normal(0, 0.2, (outputs, 6, 3, 3)).astype(np.float32)
    names = ["short", "mid", "long"]
    pads = [1, 1, 1, 1]
    graph = helper.make_graph(
        [
            helper.make_node("Concat", names, ["all"], axis=1),
            helper.make_node("Conv", ["all", "first"], ["a"], pads=pads),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "last"], ["c"], pads=pads),
            helper.make_node("Sigmoid", ["c"], ["hdr"]),
        ],
        "tiny",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, inputs, *size]) for n in names],
        [helper.make_tensor_value_info("hdr", TensorProto.FLOAT, [1, outputs, *size])],
        [numpy_helper.from_array(first, "first"), numpy_helper.from_array(last, "last")],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tiny_{domain}_fp32.onnx"
    import onnx

    onnx.save(model, path)
    _manifest(path, domain, size, halo)
    return path


def _manifest(path, domain, size, halo):
    record = {"target": "onnx", "precision": "fp32", "file": path.name, "sha256": sha256_of(path)}
    inputs, outputs = CHANNELS[domain]
    manifest = {
        "model": "tiny",
        "spec": "tiny",
        "domain": domain,
        "size": list(size),
        "halo": halo,
        "multiple": 2,
        "channels": inputs,
        "output_channels": outputs,
        "weights": None,
        "graph_sha256": "",
        "calibration": None,
        "recipe": {},
        "rewrites": [],
        "refusals": [],
        "versions": {},
        "command": "",
        "inputs": ["short", "mid", "long"],
        "schema": 1,
        "artifacts": [record],
    }
    path.with_name("manifest.json").write_text(json.dumps(manifest))
