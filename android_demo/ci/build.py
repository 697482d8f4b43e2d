"""Compiling: Kotlin to jars, the bridge to shared libraries for this host, arm64 Linux and Android."""

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


def host_bridge(compiler: str = "gcc", name: str = "host") -> Path:
    """The bridge for a desktop JVM; `compiler` may be a cross compiler for another one."""
    library = OUT / "native" / name / "libpockethdr_bridge.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-O2", "-Wall", "-Werror", "-fPIC", "-shared"]
    run([compiler, *flags, *_jni(), *_bridge_sources(), "-o", library, "-ldl"])
    return library


def android_bridge(abi: str) -> Path:
    """The bridge for Android, by plain clang and lld.

    It uses nothing of bionic but a few functions, so that empty stand-ins of its two libraries are
    enough to link against.
    """
    folder = OUT / "native" / abi
    stubs = folder / "stubs"
    stubs.mkdir(parents=True, exist_ok=True)
    for stub in ("c", "dl"):
        source = NATIVE / f"bionic/lib{stub}.c"
        run([*_clang(abi), f"-Wl,-soname,lib{stub}.so", source, "-o", stubs / f"lib{stub}.so"])
    library = folder / "libpockethdr_bridge.so"
    link = [f"-Wl,-z,max-page-size={PAGE}", "-Wl,--no-undefined", "-Wl,--hash-style=both"]
    link += [f"-Wl,-soname,{library.name}", f"-L{stubs}", "-lc", "-ldl"]
    headers = ["-I", str(NATIVE / "bionic"), *_jni()]
    run([*_clang(abi), *headers, *_bridge_sources(), "-o", library, *link])
    return library


def java_home() -> Path:
    return Path(run(["readlink", "-f", "/usr/bin/javac"]).strip()).parents[1]


def _bridge_sources() -> list[Path]:
    return [NATIVE / "network.c", NATIVE / "bridge.c"]


def _jni() -> list[str]:
    include = java_home() / "include"
    return ["-I", str(include), "-I", str(include / "linux")]


def _clang(abi: str) -> list[str]:
    resources = run(["clang", "-print-resource-dir"]).strip()
    return [
        *("clang", f"--target={ABIS[abi]}-linux-android26", "-O2", "-Wall", "-fPIC", "-shared"),
        *("-nostdlib", "-nostdinc", "-isystem", f"{resources}/include", "-ffreestanding"),
        *("-fno-builtin", "-fuse-ld=lld"),
    ]
