"""`make apk`: the app as a signed debug APK, without Gradle, an Android SDK or Google's Maven.

    resources (aapt2) → Kotlin → check of every android.* reference → dex (R8) → signature

Says loudly which step is skipped when a pinned tool has vanished from its registry.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from android_demo.ci import fetch
from android_demo.ci.api_stubs import ApiStubs
from android_demo.ci.artifacts import export_folder
from android_demo.ci.build import (
    ABIS,
    APP_SOURCES,
    CORE_SOURCES,
    SHIM_SOURCES,
    android_bridge,
    kotlin_jar,
    run,
)
from android_demo.ci.check_api import DELTA, Levels, problems
from android_demo.ci.paths import APP, CI, OUT
from android_demo.ci.zip16 import aligned_copy
from pockethdr.errors import PocketError, Unavailable
from pockethdr.export.manifest import MANIFEST_NAME, read_manifest

BUILD = OUT / "apk"
_FRAMEWORK = Path("/usr/share/android-framework-res/framework-res.apk")
_ASM = Path("/usr/share/java/asm.jar")
_PASSWORD = "android"


def main() -> int:
    try:
        for apk in build():
            print(f"{apk}: {apk.stat().st_size / 1e6:.1f} MB")
    except Unavailable as missing:
        print(f"SKIPPED: the APK was not built: {missing.reason}; {missing.install}")
    except PocketError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def build() -> list[Path]:
    """The APK with both ABIs, and one for phones alone.

    Raises:
        Unavailable: a tool cannot be had.
        PocketError: the app uses what API 36 has not.
    """
    fetch.need_packages(fetch.BUILD_PACKAGES)
    BUILD.mkdir(parents=True, exist_ok=True)
    base = _resources(_assets(export_folder()))
    classes = _classes()
    _check(classes)
    dex = _dex(classes)
    return [
        _package(base, dex, tuple(ABIS), "pockethdr-ci-debug.apk"),
        _package(base, dex, ("arm64-v8a",), "pockethdr-arm64-ci-debug.apk"),
    ]


def android_jar() -> Path:
    """API 23 with the lines of the delta."""
    jar = BUILD / "android.jar"
    run(
        [
            "java",
            "-cp",
            _ASM,
            CI / "ApiDelta.java",
            fetch.android_23_jar(),
            DELTA,
            jar,
        ]
    )
    return jar


def _assets(export: Path) -> Path:
    """The manifest and its artifacts, as the app reads them."""
    folder = BUILD / "assets"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = [record.file for record in read_manifest(export).artifacts]
    for name in (MANIFEST_NAME, *files):
        shutil.copy(export / str(name), folder)
    return folder


def _resources(assets: Path) -> Path:
    """An APK of manifest, resources and assets; also writes R.java."""
    settings = fetch.pins()["android"]
    manifest = BUILD / "AndroidManifest.xml"
    manifest.write_text(
        _merged((APP / "main/AndroidManifest.xml").read_text(), settings["application"])
    )
    compiled, base = BUILD / "resources.zip", BUILD / "base.apk"
    run(["aapt2", "compile", "--dir", APP / "main/res", "-o", compiled])
    run([
        *("aapt2", "link", "-I", _FRAMEWORK, "--manifest", manifest, "-o", base, "-A", assets),
        *("--min-sdk-version", str(settings["min_sdk"])),
        *("--target-sdk-version", str(settings["target_sdk"])),
        *("--version-code", "1", "--version-name", settings["version"], "--debug-mode"),
        *("-0", "tflite", "--java", BUILD / "generated", compiled),
    ])  # fmt: skip
    return base


def _merged(manifest: str, application: str) -> str:
    """The manifest with what Gradle would add: the package, and that libraries are compressed."""
    named = manifest.replace("<manifest ", f'<manifest package="{application}" ')
    return named.replace("<application", '<application android:extractNativeLibs="true"')


def _classes() -> Path:
    """The app, the core and the stand-in for LiteRT's Kotlin API, as class files."""
    resources = BUILD / "resource-classes"
    sources = sorted((BUILD / "generated").rglob("R.java"))
    run(["javac", "--release", "8", "-Xlint:-options", "-d", resources, *sources])
    return kotlin_jar(
        [CORE_SOURCES, APP_SOURCES, SHIM_SOURCES],
        BUILD / "app.jar",
        classpath=[android_jar(), resources],
        android=True,
    )


def _check(classes: Path) -> None:
    stubs, levels = ApiStubs(fetch.api_stubs()), Levels(fetch.api_levels())
    wrong = problems(classes, stubs, levels, min_sdk=fetch.pins()["android"]["min_sdk"])
    if wrong:
        raise PocketError("the app uses what Android has not:\n" + "\n".join(wrong))


def _dex(classes: Path) -> Path:
    """Class files of the app and of Kotlin's library in the phone's format, the unused left out."""
    folder = BUILD / "dex"
    folder.mkdir(exist_ok=True)
    resources = BUILD / "r.jar"
    with zipfile.ZipFile(resources, "w") as jar:
        for file in (BUILD / "resource-classes").rglob("*.class"):
            jar.write(file, file.relative_to(BUILD / "resource-classes"))
    run([
        *("java", "-cp", fetch.r8(), "com.android.tools.r8.R8", "--release"),
        *("--min-api", str(fetch.pins()["android"]["min_sdk"]), "--lib", BUILD / "android.jar"),
        *("--pg-conf", CI / "r8.pro", "--output", folder),
        *(classes, resources, fetch.kotlin() / "lib/kotlin-stdlib.jar"),
    ])  # fmt: skip
    return folder


def _package(base: Path, dex: Path, abis: Sequence[str], name: str) -> Path:
    """Everything together, aligned and signed with a debug key."""
    unaligned, aligned = BUILD / f"unaligned-{name}", BUILD / f"aligned-{name}"
    shutil.copy(base, unaligned)
    with zipfile.ZipFile(unaligned, "a", zipfile.ZIP_DEFLATED) as apk:
        for file in sorted(dex.glob("*.dex")):
            apk.write(file, file.name)
        for abi in abis:
            for library in (android_bridge(abi), fetch.litert(abi)):
                apk.write(library, f"lib/{abi}/{library.name}")
    aligned_copy(unaligned, aligned)
    signed = OUT / name
    run([
        *("apksigner", "sign", "--ks", _debug_key(), "--ks-pass", f"pass:{_PASSWORD}"),
        *("--min-sdk-version", str(fetch.pins()["android"]["min_sdk"]), "--out", signed, aligned),
    ])  # fmt: skip
    return signed


def _debug_key() -> Path:
    """A key that says nothing of who built the APK."""
    store = BUILD / "debug.jks"
    if not store.exists():
        run([
            *("keytool", "-genkeypair", "-keystore", store, "-alias", "debug", "-keyalg", "RSA"),
            *("-storepass", _PASSWORD, "-keypass", _PASSWORD, "-validity", "10000"),
            *("-dname", "CN=PocketHDR debug"),
        ])  # fmt: skip
    return store


if __name__ == "__main__":
    raise SystemExit(main())
