"""CUDA devices, asked of the driver: TensorRT may end a process that has none."""

from __future__ import annotations

import ctypes


def device_count() -> int:
    """CUDA devices that the driver offers; 0 without a driver. Touches no other library."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    answers = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if answers else 0
