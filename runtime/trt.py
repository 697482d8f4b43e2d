"""TensorRT and TensorRT-RTX plans on a CUDA device.

The driver is asked before any TensorRT library is touched: without one, some of those libraries end
the process instead of raising. Buffers are the driver's own (ctypes), so that no torch is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pockethdr.cuda import device_count
from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.runtime.runner import (
    Array,
    Frames,
    HostFrames,
    check_frames,
    input_shapes,
    is_nhwc,
    order_inputs,
)

_NO_DEVICE = "no CUDA device answers"
_INSTALL = "an NVIDIA GPU with its driver, and pip install 'pockethdr[tensorrt]'"
# TensorRT keeps the first logger of a process and ignores later ones.
_loggers: dict[str, Any] = {}


def open_plan(artifact: Path, threads: int, layout: str | None) -> PlanRunner:
    """A serialized plan as a runner, by full TensorRT, else by TensorRT-RTX.

    Raises:
        Unavailable: no CUDA device, or neither TensorRT is installed.
        ArtifactError: no installed TensorRT loads the plan on this device.
    """
    driver = Driver()
    plan = artifact.read_bytes()
    flavours = _flavours()
    for trt in flavours:
        engine = trt.Runtime(_logger(trt)).deserialize_cuda_engine(plan)
        if engine is not None:
            return PlanRunner(driver, trt, engine, artifact, layout)
    tried = ", ".join(f"{trt.__name__} {trt.__version__}" for trt in flavours)
    raise ArtifactError(
        f"{artifact}: the plan loads with none of {tried}",
        expected="a plan of the installed version and of this device's compute capability",
        fix="export the model again on this machine",
    )


class Driver:
    """The few calls of the CUDA driver API that copying a frame needs, on device 0.

    Each raises ArtifactError when it fails: a kernel's own failure shows in the call behind it.

    Raises:
        Unavailable: no CUDA device answers.
    """

    def __init__(self) -> None:
        if device_count() == 0:
            raise Unavailable(_NO_DEVICE, install=_INSTALL)
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._context = ctypes.c_void_p()
        try:
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), ctypes.c_int(0))
        except ArtifactError as error:
            why = f"the CUDA device cannot be used ({error})"
            raise Unavailable(why, install=_INSTALL) from error
        self.enter()

    def enter(self) -> None:
        """Make this the calling thread's device: CUDA keeps that for each thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Device address of `size` new bytes."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, address: int, array: np.ndarray) -> None:
        source = array.ctypes.data_as(ctypes.c_void_p)
        self._call(
            "cuMemcpyHtoD_v2", ctypes.c_uint64(address), source, ctypes.c_size_t(array.nbytes)
        )

    def download(self, array: np.ndarray, address: int) -> None:
        target = array.ctypes.data_as(ctypes.c_void_p)
        self._call(
            "cuMemcpyDtoH_v2", target, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes)
        )

    def synchronize(self) -> None:
        self._call("cuCtxSynchronize")

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code != 0:
            raise ArtifactError(f"CUDA driver: {name} failed with code {code}")


class PlanRunner(HostFrames):
    """See `Runner`. Buffers are allocated once; `close` frees them."""

    def __init__(
        self, driver: Driver, trt: Any, engine: Any, artifact: Path, layout: str | None
    ) -> None:
        tensors = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        is_input = [engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in tensors]
        inputs = [name for name, yes in zip(tensors, is_input, strict=True) if yes]
        inputs = [inputs[i] for i in order_inputs(inputs, artifact)]
        output = next(name for name, yes in zip(tensors, is_input, strict=True) if not yes)
        shapes = {n: tuple(int(s) for s in engine.get_tensor_shape(n)) for n in tensors}
        self.name = f"{'TensorRT-RTX' if 'rtx' in trt.__name__ else 'TensorRT'} {trt.__version__}"
        self._nhwc = is_nhwc(shapes[inputs[0]], layout)
        self.shape, self.context = input_shapes([shapes[n] for n in inputs], self._nhwc, artifact)
        self._driver, self._engine = driver, engine
        self._context = engine.create_execution_context()
        self._hosts = {
            name: np.empty(shapes[name], trt.nptype(engine.get_tensor_dtype(name)))
            for name in [*inputs, output]
        }
        self._addresses = {name: driver.allocate(h.nbytes) for name, h in self._hosts.items()}
        for name, address in self._addresses.items():
            self._context.set_tensor_address(name, address)
        self._inputs, self._output = inputs, output

    def run(self, frames: Frames) -> Array:
        """See `Runner.run`."""
        check_frames(frames, self.shape, self.context)
        self._driver.enter()
        for name, frame in zip(self._inputs, frames, strict=True):
            host = self._hosts[name]
            np.copyto(host, frame.transpose(0, 2, 3, 1) if self._nhwc else frame, casting="unsafe")
            self._driver.upload(self._addresses[name], host)
        if not self._context.execute_async_v3(0):
            raise ArtifactError(f"{self.name} could not run the plan", fix="export it again")
        self._driver.synchronize()
        host = self._hosts[self._output]
        self._driver.download(host, self._addresses[self._output])
        return np.array(host.transpose(0, 3, 1, 2) if self._nhwc else host, np.float32, order="C")

    def close(self) -> None:
        """See `Runner.close`."""
        addresses, self._addresses = self._addresses, {}
        with contextlib.suppress(ArtifactError):  # of a run that failed, which says more
            self._driver.enter()
            for address in addresses.values():
                self._driver.free(address)


def _flavours() -> list[Any]:
    """The installed TensorRT modules, full TensorRT first."""
    found = []
    for name in ("tensorrt", "tensorrt_rtx_bindings"):
        try:
            found.append(import_module(name))
        except ImportError:
            continue
    if not found:
        raise Unavailable("no TensorRT is installed", install=_INSTALL)
    return found


def _logger(trt: Any) -> Any:
    if trt.__name__ not in _loggers:
        _loggers[trt.__name__] = trt.Logger(trt.Logger.ERROR)
    return _loggers[trt.__name__]
