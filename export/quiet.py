"""Silence for converters that write to the terminal from Python and from C++ alike."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

VERBOSE = "POCKETHDR_VERBOSE"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptors 1 and 2, warnings and logs nowhere, unless `POCKETHDR_VERBOSE` is set.

    When the block fails, the end of what it wrote is added to the error as a note.
    """
    if os.environ.get(VERBOSE):
        yield
        return
    previous = logging.root.manager.disable
    with tempfile.TemporaryFile() as sink, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            with (
                _redirected(1, sink.fileno()),
                _redirected(2, sink.fileno()),
                open(sink.fileno(), "w", closefd=False) as text,
                contextlib.redirect_stdout(text),
                contextlib.redirect_stderr(text),
            ):
                yield
        except Exception as error:
            sink.seek(max(0, sink.seek(0, os.SEEK_END) - 2000))
            error.add_note(sink.read().decode(errors="replace"))
            raise
        finally:
            logging.disable(previous)


@contextlib.contextmanager
def _redirected(descriptor: int, sink: int) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(descriptor)
    os.dup2(sink, descriptor)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved, descriptor)
        os.close(saved)
