"""The errors PocketHDR raises on purpose.

Everything a user can cause is a `PocketError`: the CLI prints it without a traceback and exits
with 2. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import copyreg
import sys
from pathlib import Path
from typing import Any

_NOT_OWN = {"pockethdr", "torch", *sys.stdlib_module_names}


class PocketError(Exception):
    """Something the user can mend.

    Args:
        what: what went wrong, naming the file, option or value received.
        expected: what would have been right.
        fix: the next thing to do, a command where there is one.
    """

    def __init__(self, what: str, *, expected: str = "", fix: str = "") -> None:
        self.what, self.expected, self.fix = what, expected, fix
        super().__init__(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """As is, whatever a subclass wants of its constructor: workers send errors home."""
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.fix:
            parts.append(f"fix: {self.fix}")
        return "\n".join(parts)


class BracketError(PocketError):
    """A bracket, or one of its frames, cannot be used."""


class WeightsError(PocketError):
    """A weights file cannot be used with this network."""


class ModelError(PocketError):
    """A MODEL argument names no network, or the network breaks the input/output contract."""


class RefusedError(PocketError):
    """A network holds a dynamic operation that cannot be made static."""


class ArtifactError(PocketError):
    """An artifact or its manifest is missing, stale or damaged."""


class Unavailable(PocketError):
    """This host lacks a toolchain or device. Reported as `skipped`, never as passed.

    Args:
        reason: what is missing.
        install: the line that installs it, or what hardware is needed.
    """

    def __init__(self, reason: str, *, install: str) -> None:
        self.reason, self.install = reason, install
        super().__init__(reason, fix=install)


def own_line(error: BaseException) -> str:
    """` (file.py:12)`, the deepest line of the user's own code on the way to an error, or nothing.

    Where PyTorch gave up says less than who called it.
    """
    found, trace = "", error.__traceback__
    while trace is not None:
        frame, line, trace = trace.tb_frame, trace.tb_lineno, trace.tb_next
        file, module = Path(frame.f_code.co_filename), frame.f_globals.get("__name__", "")
        installed = "site-packages" in file.parts or module.split(".")[0] in _NOT_OWN
        if file.is_absolute() and not installed:
            found = f" ({file.name}:{line})"
    return found


def first_line(error: BaseException, *, otherwise: str = "") -> str:
    """The first line of what someone else's error says.

    Args:
        otherwise: for one that says nothing, as of a bare `assert`; by default the error's type.
    """
    lines = str(error).strip().splitlines() or [otherwise or type(error).__name__]
    return lines[0]
