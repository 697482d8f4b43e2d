"""What CI builds the Android app with is what Gradle is told, and what the environment runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ANDROID = ROOT / "android_demo"


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())


def disagreements(
    pins: dict[str, Any], gradle: dict[str, Any], project: str, app: str
) -> list[str]:
    """Each version that is not the same everywhere."""
    android, versions = pins["android"], gradle["versions"]
    litert = re.search(r"ai-edge-litert==([\d.]+)", project)
    pairs = {
        "kotlin": (pins["npm"]["kotlin-compiler"]["version"], versions["kotlin"]),
        "minSdk": (str(android["min_sdk"]), versions["minSdk"]),
        "targetSdk": (str(android["target_sdk"]), versions["targetSdk"]),
        "compileSdk": (
            pins["pypi"]["chaquopy-stubs-android"]["version"].split(".")[0],
            versions["compileSdk"],
        ),
        "litert": (android["litert"], versions["litert"]),
        "litert of pyproject": (android["litert"], litert[1] if litert else ""),
        "applicationId": (android["application"], *re.findall(r'applicationId = "(.+)"', app)),
        "versionName": (android["version"], *re.findall(r'versionName = "(.+)"', app)),
    }
    return [name for name, (ours, theirs) in pairs.items() if ours != theirs]


def test_pins_agree_with_gradle_and_the_environment() -> None:
    pins = _toml(ANDROID / "ci/pins.toml")
    gradle = _toml(ANDROID / "gradle/libs.versions.toml")
    project = (ROOT / "pyproject.toml").read_text()
    app = (ANDROID / "app/build.gradle.kts").read_text()

    assert disagreements(pins, gradle, project, app) == []

    gradle["versions"]["minSdk"] = "24"
    pins["android"]["litert"] = "2.0.0"
    assert disagreements(pins, gradle, project, app) == ["minSdk", "litert", "litert of pyproject"]


def test_every_pin_has_a_hash() -> None:
    text = (ANDROID / "ci/pins.toml").read_text()

    assert text.count("version =") - 1 == len(re.findall(r'sha256 = "[0-9a-f]{64}"', text))
