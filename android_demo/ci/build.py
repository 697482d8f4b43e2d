"""Compiling: Kotlin to jars, the bridge to libraries for this host, arm64 Linux and Android."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from android_demo.ci.fetch import kotlin
from android_demo.ci.paths import APP, CI, CORE, OUT

NATIVE = CI / "native"
ABIS = {"arm64-v8a": "aarch64", "x86_64": "x86_64"}
#: Of Android 15: a library whose segments are aligned to less does not load there.
PAGE = 16384

CORE_SOURCES = CORE / "main/kotlin"
APP_SOURCES = APP / "main/kotlin"
SHIM_SOURCES = CI / "litert-shim"
#: What of the app runs on a desktop too.
ENGINE_SOURCE = APP_SOURCES / "org/pockethdr/demo/LiteRtEngine.kt"


def run(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Run a tool and return what it printed; a failure is a bug of ours, so all of it is shown."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def kotlin_jar(
    sources: Sequence[Path], jar: Path, *, classpath: Sequence[Path], android: bool = False
) -> Path:
    """Compile Kotlin; `android` also denies what the JDK has and Android has not."""
    jar.parent.mkdir(parents=True, exist_ok=True)
    options = ["-jvm-target", "1.8", "-no-reflect", "-Werror", *(["-no-jdk"] if android else [])]
    path = ":".join(str(part) for part in classpath)
    # Its start script is not executable in the package, and asks for bash.
    compiler = kotlin() / "bin/kotlinc"
    run(["bash", compiler, *options, "-cp", path, "-d", jar, *sources])
    return jar


def host_bridge() -> Path:
    """The bridge for this host's JVM."""
    flags = ["gcc", "-O2", "-Wall", "-Werror", "-fPIC", "-shared"]
    return _bridge("host", [*flags, *_jni()], ["-ldl"])


def arm64_linux_bridge() -> Path:
    """The bridge for an arm64 Linux JVM; the C library is found when it is loaded."""
    return _bridge("arm64-linux", [*_clang("aarch64-linux-gnu"), *_jni()])


def android_bridge(abi: str) -> Path:
    """The bridge for Android, by plain clang and lld, without an NDK.

    It uses nothing of bionic but a few functions, so that empty stand-ins of its two libraries are
    enough to link against.
    """
    clang = _clang(f"{ABIS[abi]}-linux-android26")
    stubs = OUT / "native" / abi / "stubs"
    stubs.mkdir(parents=True, exist_ok=True)
    for stub in ("c", "dl"):
        source = NATIVE / f"bionic/lib{stub}.c"
        run([*clang, f"-Wl,-soname,lib{stub}.so", source, "-o", stubs / f"lib{stub}.so"])
    link = [f"-Wl,-z,max-page-size={PAGE}", "-Wl,--no-undefined", "-Wl,--hash-style=both"]
    return _bridge(abi, [*clang, *_jni()], [*link, f"-L{stubs}", "-lc", "-ldl"])


def java_home() -> Path:
    return Path(run(["readlink", "-f", "/usr/bin/javac"]).strip()).parents[1]


def _bridge(name: str, compiler: Sequence[str], link: Sequence[str] = ()) -> Path:
    library = OUT / "native" / name / "libpockethdr_bridge.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    sources = [NATIVE / "network.c", NATIVE / "bridge.c"]
    run([*compiler, *sources, "-o", library, f"-Wl,-soname,{library.name}", *link])
    return library


def _jni() -> list[str]:
    include = java_home() / "include"
    return ["-I", str(include), "-I", str(include / "linux")]


def _clang(target: str) -> list[str]:
    """A compiler for `target` that knows no C library."""
    resources = run(["clang", "-print-resource-dir"]).strip()
    return [
        *("clang", f"--target={target}", "-O2", "-Wall", "-fPIC", "-shared", "-nostdlib"),
        *("-nostdinc", "-isystem", f"{resources}/include", "-ffreestanding", "-fno-builtin"),
        *("-fuse-ld=lld", "-I", str(NATIVE / "bionic")),
    ]
