"""Measuring in a process of its own, whose peaks and threads are those of nothing else.

The child says what it found as one JSON object on its last line, or why it found nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from pockethdr.errors import ArtifactError, PocketError, Unavailable

_UNAVAILABLE, _REFUSED = 3, 2


def measured_in_child(module: str, *arguments: object) -> dict[str, Any]:
    """What `python -m MODULE ARGUMENTS`, which ends in `answer`, measures.

    Raises:
        Unavailable: this host cannot run what is to be measured.
        ArtifactError: it does not run, or ends the process.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode in (0, _UNAVAILABLE):
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if done.returncode:
            raise Unavailable(**found)
        return found
    why = done.stderr.strip() or f"exit status {done.returncode}"
    raise ArtifactError(f"{arguments[0]}: could not be measured: {why}")


def answer(measure: Callable[[], dict[str, Any]]) -> None:
    """Print what `measure` returns for the parent, and end with its status when it raises."""
    try:
        print(json.dumps(measure()))
    except Unavailable as missing:
        print(json.dumps({"reason": missing.reason, "install": missing.install}))
        sys.exit(_UNAVAILABLE)
    except PocketError as error:
        print(error, file=sys.stderr)
        sys.exit(_REFUSED)
