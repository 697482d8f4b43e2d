"""What `make apk` built; skipped where it has not been run."""

from __future__ import annotations

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from android_demo.ci.paths import OUT
from android_demo.ci.zip16 import misaligned_entries, misaligned_segments

UNIVERSAL = OUT / "pockethdr-ci-debug.apk"
PHONE = OUT / "pockethdr-arm64-ci-debug.apk"
pytestmark = pytest.mark.slow


def _apk(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"no {path.name}: run `make apk`")
    return path


def _run(*command: str | Path) -> str:
    if not shutil.which(str(command[0])):
        pytest.skip(f"{command[0]} is not installed: run `make apk`")
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("path", [UNIVERSAL, PHONE])
def test_apk_is_signed_and_says_what_it_is(path: Path) -> None:
    signature = _run("apksigner", "verify", "--verbose", _apk(path))
    badging = _run("aapt", "dump", "badging", path)

    assert re.search(r"Verified using v2 scheme.*: true", signature)
    assert "package: name='org.pockethdr.demo'" in badging
    assert "sdkVersion:'26'" in badging
    assert "targetSdkVersion:'36'" in badging
    assert "launchable-activity: name='org.pockethdr.demo.MainActivity'" in badging


def test_apk_holds_the_app_the_runtime_and_the_artifacts(tmp_path: Path) -> None:
    with zipfile.ZipFile(_apk(UNIVERSAL)) as apk:
        names = set(apk.namelist())
        (tmp_path / "classes.dex").write_bytes(apk.read("classes.dex"))
        for abi in ("arm64-v8a", "x86_64"):
            for library in ("libpockethdr_bridge.so", "liblitert-lm.so"):
                assert misaligned_segments(apk.read(f"lib/{abi}/{library}")) == []

    assert {"assets/manifest.json", "AndroidManifest.xml"} <= names
    assert {p for n in names for p in ("fp16", "int8") if n.endswith(f"{p}.tflite")} == {
        "fp16",
        "int8",
    }
    classes = _run("dexdump", tmp_path / "classes.dex")
    for name in ("demo/MainActivity", "core/ToneMap", "core/UltraHdrJpeg"):
        assert f"Lorg/pockethdr/{name};" in classes
    assert misaligned_entries(UNIVERSAL) == []


def test_apk_of_one_abi_is_small() -> None:
    assert _apk(PHONE).stat().st_size < 25e6


def test_a_damaged_apk_is_refused(tmp_path: Path) -> None:
    if not shutil.which("apksigner"):
        pytest.skip("apksigner is not installed: run `make apk`")
    broken = tmp_path / "broken.apk"
    data = bytearray(_apk(PHONE).read_bytes())
    data[len(data) // 2] ^= 1
    broken.write_bytes(data)

    done = subprocess.run(["apksigner", "verify", broken], capture_output=True, check=False)

    assert done.returncode != 0
