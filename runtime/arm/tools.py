"""An emulated ARM processor with Python and LiteRT on it, for `check.py`.

QEMU's user mode runs single arm64 Linux programs; their libraries come from Debian's arm64
packages and from aarch64 wheels. Nothing is installed into the system.
`python -m pockethdr.runtime.arm.tools` fetches everything (about 300 MB) into
`~/.cache/pockethdr/arm`, or into `$POCKETHDR_ARM`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pockethdr.errors import PocketError, Unavailable
from pockethdr.runtime.arm.apt_root import AptRoot

FETCH = "python -m pockethdr.runtime.arm.tools"
#: QEMU 7.2 of Debian 12 crashes on LiteRT's kernels.
_LEAST_QEMU = 10
_SUITE, _QEMU_SUITE = "bookworm", "bookworm-backports"
_PYTHON = "python3.11"
_PACKAGES = (
    *(
        "libc6",
        "libgcc-s1",
        "libstdc++6",
        "zlib1g",
        "libexpat1",
        "libffi8",
        "liblzma5",
        "libbz2-1.0",
    ),
    *(f"{_PYTHON}-minimal", f"lib{_PYTHON}-minimal", f"lib{_PYTHON}-stdlib"),
)
_WHEELS = ("ai-edge-litert", "numpy", "ml_dtypes", "flatbuffers", "tqdm", "protobuf")
_WHEELS_ALSO = ("backports.strenum", "typing_extensions")
#: A Cortex-A76: FP16 arithmetic and integer dot products, as phones have had since 2019.
CPU = "cortex-a76"


@dataclass(frozen=True)
class ArmHost:
    """An emulator and what runs on it."""

    qemu: Path
    sysroot: Path
    site: Path

    def command(self, program: Path, *arguments: str | Path) -> list[str]:
        """How to run an arm64 program of the sysroot."""
        start = [self.qemu, "-cpu", CPU, "-L", self.sysroot, program]
        return [str(part) for part in (*start, *arguments)]

    def python(self, script: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a Python script there; the caller judges the exit status."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            "PYTHONHOME": str(self.sysroot / "usr"),
            "PYTHONPATH": str(self.site),
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = self.command(self.sysroot / "usr/bin" / _PYTHON, script, *arguments)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def arm_folder() -> Path:
    """Where the tools are looked for, and fetched to."""
    return Path(os.environ.get("POCKETHDR_ARM", Path.home() / ".cache/pockethdr/arm"))


def arm_host(folder: Path | None = None) -> ArmHost:
    """The tools as they lie in `folder`.

    Raises:
        Unavailable: they are not there, or QEMU is too old.
    """
    folder = folder or arm_folder()
    sysroot, site = folder / "sysroot", folder / "site"
    if not (sysroot / "usr/bin" / _PYTHON).is_file() or not (site / "ai_edge_litert").is_dir():
        raise Unavailable(f"no ARM Python with LiteRT in {folder}", install=FETCH)
    return ArmHost(qemu_of(folder), sysroot, site)


def qemu_of(folder: Path) -> Path:
    """`$POCKETHDR_QEMU`, the fetched `qemu-aarch64`, or the system's.

    Raises:
        Unavailable: there is none, or none is new enough.
    """
    given = os.environ.get("POCKETHDR_QEMU")
    system = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    candidates = [given, folder / "qemu/usr/bin/qemu-aarch64", system]
    found = [Path(path) for path in candidates if path and Path(path).is_file()]
    for qemu in found:
        if _version(qemu) >= _LEAST_QEMU:
            return qemu
    reason = f"QEMU {_version(found[0])} is too old" if found else "no qemu-aarch64"
    raise Unavailable(
        f"{reason}: ARM code needs QEMU {_LEAST_QEMU} or newer",
        install=f"{FETCH}, or POCKETHDR_QEMU=/path/to/qemu-aarch64",
    )


def fetch(folder: Path | None = None) -> ArmHost:
    """Download whatever is missing.

    Raises:
        Unavailable: no Debian mirror or Python index within reach.
    """
    folder = folder or arm_folder()
    fetch_qemu(folder)
    if not (folder / "sysroot/usr/bin" / _PYTHON).is_file():
        unpack_arm64(folder, _PACKAGES)
    if not (folder / "site").is_dir():
        _fetch_wheels(folder)
    return arm_host(folder)


def fetch_qemu(folder: Path) -> Path:
    """A QEMU that is new enough, fetched if the host has none."""
    try:
        return qemu_of(folder)
    except Unavailable:
        root = AptRoot(folder / "apt-qemu", suite=_QEMU_SUITE)
        root.unpack(["qemu-user"], folder / "qemu")
        return qemu_of(folder)


def unpack_arm64(folder: Path, packages: Sequence[str]) -> Path:
    """Debian's arm64 `packages` over the sysroot of `folder`."""
    root = AptRoot(folder / "apt-arm64", suite=_SUITE, architecture="arm64")
    return root.unpack(packages, folder / "sysroot")


def _fetch_wheels(folder: Path) -> None:
    """LiteRT as this environment has it, for aarch64."""
    pinned = [f"{name}=={version(name)}" for name in _WHEELS]
    staging = folder / "site.part"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    command += [str(staging), "--platform", "manylinux_2_28_aarch64", "--platform"]
    command += ["manylinux_2_27_aarch64", "--platform", "manylinux2014_aarch64"]
    command += ["--only-binary", ":all:", "--python-version", _PYTHON.removeprefix("python")]
    done = subprocess.run(
        [*command, *pinned, *_WHEELS_ALSO], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip()[-300:]
        raise Unavailable(f"no aarch64 wheels: {reason}", install="let pip reach its index")
    staging.rename(folder / "site")


def _version(qemu: Path) -> int:
    """The major version, 0 when it does not say."""
    try:
        said = subprocess.run([qemu, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return 0
    found = re.search(r"version (\d+)", said.stdout)
    return int(found[1]) if found else 0


def main() -> int:
    try:
        host = fetch()
    except PocketError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{host.qemu}, {host.sysroot}, {host.site}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
