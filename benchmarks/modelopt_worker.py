"""ModelOpt with its defaults on the CPU, run by whatever interpreter has it.

python modelopt_worker.py FP32.onnx CALIBRATION.npz INT8.onnx
"""

import sys

import numpy as np
from modelopt.onnx.quantization import quantize

model, calibration, out = sys.argv[1:]
quantize(
    model,  # which it rewrites
    quantize_mode="int8",
    calibration_data=dict(np.load(calibration)),
    calibration_eps=["cpu"],
    output_path=out,
)
