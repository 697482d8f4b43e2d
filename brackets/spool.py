"""Arrays too large for memory, in a file that no one else sees and no crash leaves behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Spool:
    """An H×W or H×W×C array on disk, written and read by windows.

    The file has no name (on Linux and macOS): it goes with the process, however that ends. It lies
    where `tempfile` puts things, so `TMPDIR` moves it. Threads may read and write at once.

    Raises:
        OSError: the disk is full or not writable; from `write` too.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self._pixel = self.dtype.itemsize * int(np.prod(shape[2:], dtype=int))
        self._file = tempfile.TemporaryFile(prefix="pockethdr-")  # noqa: SIM115
        self._handle = self._file.fileno()

    def write(self, row: int, column: int, block: NDArray[Any]) -> None:
        """Put a block with its top left corner at (row, column)."""
        block = np.ascontiguousarray(block, self.dtype)
        for offset, run in self._runs(row, column, block):
            written = 0
            while written < len(run):
                written += self._put(run[written:], offset + written)

    def read(self, rows: slice, columns: slice = slice(None)) -> NDArray[Any]:
        """A copy of a window; what was never written is zero."""
        row, stop, _ = rows.indices(self.shape[0])
        column, end, _ = columns.indices(self.shape[1])
        block = np.zeros((max(0, stop - row), max(0, end - column), *self.shape[2:]), self.dtype)
        for offset, run in self._runs(row, column, block):
            os.preadv(self._handle, [run], offset)
        return block

    def _put(self, data: memoryview, offset: int) -> int:
        try:
            return os.pwrite(self._handle, data, offset)
        except OSError as error:  # of a file without a name: say where it lies
            said = f"{error.strerror} for temporary files, which TMPDIR can move"
            raise OSError(error.errno, said, tempfile.gettempdir()) from error

    def _runs(self, row: int, column: int, block: NDArray[Any]) -> Iterator[tuple[int, memoryview]]:
        """(offset in the file, bytes of the block) of each stretch that is contiguous in both."""
        if block.size == 0:
            return
        stride = self.shape[1] * self._pixel
        start = row * stride + column * self._pixel
        if block.shape[1] == self.shape[1]:
            yield start, block.reshape(-1).view(np.uint8).data
            return
        for index, line in enumerate(block.reshape(len(block), -1).view(np.uint8)):
            yield start + index * stride, line.data
