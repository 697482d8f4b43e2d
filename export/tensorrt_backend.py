"""Which TensorRT can build here: TensorRT itself wants a GPU, TensorRT-RTX none."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from pockethdr.cuda import device_count
from pockethdr.errors import Unavailable

_MODULES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx_bindings"}


def backend() -> tuple[str, Any]:
    """The name of what can build here, and its module.

    Raises:
        Unavailable: neither TensorRT with a GPU nor TensorRT-RTX is present.
    """
    name = backend_name()
    return name, importlib.import_module(_MODULES[name])


def backend_name() -> str:
    """`tensorrt` or `tensorrt_rtx`, without loading it.

    Raises:
        Unavailable: neither TensorRT with a GPU nor TensorRT-RTX is present.
    """
    if importlib.util.find_spec(_MODULES["tensorrt"]) and device_count():
        return "tensorrt"
    if importlib.util.find_spec(_MODULES["tensorrt_rtx"]):
        return "tensorrt_rtx"
    raise Unavailable(
        "neither TensorRT-RTX nor TensorRT with a GPU is present",
        install="pip install 'pockethdr[tensorrt]'",
    )
