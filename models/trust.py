"""Whose code an export's manifest may name: to make a network again is to run its factory.

A manifest comes with its folder, and whoever made the folder wrote it. Zoo names run nothing but
this package. Any other spec is run only after this user has named it herself: by exporting it, or
with `--model`. Empty files in `~/.local/state/pockethdr/networks` remember that, each named after
the absolute path of the factory's file, or after a module and the folder that it was named in.

Guaranteed: a folder from elsewhere runs no code, wherever its files lie and whatever is installed.
Not guaranteed: that the code is still the code of the export. What the user has named may change,
with all that it imports, and is then run as it is, just as any program of hers.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from contextlib import suppress
from pathlib import Path

from pockethdr.errors import ArtifactError

_named: set[str] = set()


def trust(spec: str) -> None:
    """Let manifests name `spec` from now on, here and in later processes of this user.

    Where the user has no writable home, in this process alone.
    """
    if ":" not in spec:
        return
    key = _key(spec)
    _named.add(key)
    with suppress(OSError, RuntimeError):
        _remembered().mkdir(parents=True, exist_ok=True)
        (_remembered() / key).touch()


def check_trusted(spec: str, out: Path) -> None:
    """Refuse to run code that only the manifest of `out` names.

    Raises:
        ArtifactError: `spec` is no zoo name, and this user has never named it.
    """
    if ":" in spec and not _is_trusted(_key(spec)):
        raise ArtifactError(
            f"{out} names code to be run, {spec}, which was not exported by you in this place",
            expected="a network of `pockethdr models`, or code that you trust",
            fix=f"read it first; to run it, repeat the command with --model {shlex.quote(spec)}",
        )


def _is_trusted(key: str) -> bool:
    with suppress(OSError, RuntimeError):
        return key in _named or (_remembered() / key).is_file()
    return False


def _key(spec: str) -> str:
    where, _, name = spec.rpartition(":")
    place = str(Path(where).resolve()) if where.endswith(".py") else f"{Path.cwd()}\0{where}"
    return hashlib.sha256(os.fsencode(f"{place}\0{name}")).hexdigest()


def _remembered() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(state) / "pockethdr/networks"
