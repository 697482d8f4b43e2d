"""`make android-test`: the Kotlin core and the app's engine, on the real LiteRT library.

On this host's JVM, then the same suite on an arm64 JVM under QEMU, which runs LiteRT's ARM kernels.
"""

from __future__ import annotations

import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from android_demo.ci.artifacts import MODEL, export_folder
from android_demo.ci.build import (
    CORE_SOURCES,
    ENGINE_SOURCE,
    SHIM_SOURCES,
    arm64_linux_bridge,
    host_bridge,
    kotlin_jar,
    run,
)
from android_demo.ci.fetch import TEST_PACKAGES, kotlin, need_packages
from android_demo.ci.goldens import write_goldens
from android_demo.ci.paths import CI, CORE, OUT
from pockethdr.errors import PocketError, Unavailable
from pockethdr.runtime.arm.tools import ArmHost, fetch, unpack_arm64

#: Of two widths: bits must agree whatever the kernels that these take.
MODELS = (MODEL, "dsan-m16")
# Little more than the halo on each side: emulated processors are slow.
TILE = 64
# All integer: the float operations that the default recipe keeps differ between processors.
RECIPE = "full"
JUNIT = [Path("/usr/share/java") / jar for jar in ("junit4.jar", "hamcrest-core.jar")]


def main() -> int:
    try:
        need_packages(TEST_PACKAGES)
        jar = test_jar()
        goldens = OUT / "goldens"
        write_goldens(
            goldens, {model: export_folder(model, size=TILE, recipe=RECIPE) for model in MODELS}
        )
        print(junit(jar, goldens, ["java"], bridge=host_bridge(), litert=host_litert()))
    except PocketError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        arm = fetch()
        java = arm64_java(arm)
        litert = arm.site / "ai_edge_litert/libLiteRt.so"
        print(junit(jar, goldens, java, bridge=arm64_linux_bridge(), litert=litert))
    except Unavailable as missing:
        print(f"SKIPPED: the suite on arm64: {missing.reason}; {missing.install}")
    return 0


def test_jar() -> Path:
    """Core, engine, stand-in and tests, compiled together for a desktop JVM."""
    sources = [CORE_SOURCES, CORE / "test/kotlin", SHIM_SOURCES, ENGINE_SOURCE, CI / "jvm"]
    return kotlin_jar(sources, OUT / "jvm/tests.jar", classpath=JUNIT)


def java_arguments(jar: Path, goldens: Path, *, bridge: Path, litert: Path) -> list[str]:
    """Everything before the main class."""
    path = [jar, kotlin() / "lib/kotlin-stdlib.jar", *JUNIT]
    return [
        "-Xmx3g",
        *("-cp", ":".join(str(part) for part in path)),
        f"-Dpockethdr.goldens={goldens}",
        f"-Dpockethdr.bridge={bridge}",
        f"-Dpockethdr.litert={litert}",
    ]


def junit(jar: Path, goldens: Path, java: list[str], *, bridge: Path, litert: Path) -> str:
    """Run every test class; returns JUnit's report with the time it took.

    Raises:
        RuntimeError: a test failed.
    """
    folders = (CORE / "test/kotlin", CI / "jvm")
    names = [_class_name(file) for folder in folders for file in sorted(folder.rglob("*Test.kt"))]
    begin = time.monotonic()
    arguments = java_arguments(jar, goldens, bridge=bridge, litert=litert)
    report = run([*java, *arguments, "org.junit.runner.JUnitCore", *names])
    return f"{report.strip()}\n{' '.join(java[:1])}: {time.monotonic() - begin:.0f} s"


def host_litert() -> Path:
    """LiteRT's library in the Python package of the environment."""
    spec = find_spec("ai_edge_litert")
    if spec is None or spec.origin is None:
        raise Unavailable("LiteRT is not installed", install="pip install 'pockethdr[tflite]'")
    return Path(spec.origin).parent / "libLiteRt.so"


def arm64_java(arm: ArmHost) -> list[str]:
    """The command of an arm64 JVM under the emulator, fetched when it is missing."""
    java = arm.sysroot / "usr/lib/jvm/java-17-openjdk-arm64/bin/java"
    if not java.is_file():
        unpack_arm64(arm.sysroot.parent, ("openjdk-17-jre-headless",))
    # Its configuration files are links into /etc, which here is the host's.
    return arm.command(java, "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1")


def _class_name(source: Path) -> str:
    package = re.search(r"^package (\S+)", source.read_text(), re.MULTILINE)
    assert package is not None
    return f"{package[1]}.{source.stem}"


if __name__ == "__main__":
    raise SystemExit(main())
