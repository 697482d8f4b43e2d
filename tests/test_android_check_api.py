"""The check of `android.*` references: it must refuse what Android has not."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from android_demo.ci.api_stubs import ApiStubs
from android_demo.ci.check_api import Levels, problems
from android_demo.ci.fetch import api_levels
from android_demo.ci.paths import CI, TOOLS

_TORCH = """package android.hardware;
public class Torch {
    public void light(int level) {}
    public void warm(int level) {}
    public void explode() {}
}
"""
_APP = """import android.hardware.Torch;
public class App {
    void use(Torch torch) { torch.light(1); torch.warm(2); torch.explode(); }
}
"""
_STUBS = """import java
class Torch:
    def light(self, level: int | java.jint | java.lang.Integer, /): ...
    def warm(self, level: int | java.jint | java.lang.Integer, /): ...
"""
_LEVELS = """export class Torch {
public static class: java.lang.Class<android.hardware.Torch>;
public light(level: number): void;
/** @since 31 */ public warm(level: number): void;
}
"""


def _jar(folder: Path, sources: dict[str, str]) -> Path:
    """The compiled sources but for `android.*`, as an app's jar is."""
    if not shutil.which("javac"):
        pytest.skip("javac is not installed: apt-get install openjdk-17-jdk-headless")
    for name, text in sources.items():
        (folder / name).write_text(text)
    classes = folder / "classes"
    subprocess.run(["javac", "-d", classes, *(folder / name for name in sources)], check=True)
    with zipfile.ZipFile(folder / "app.jar", "w") as jar:
        for file in classes.glob("*.class"):
            jar.write(file, file.name)
    return folder / "app.jar"


def test_a_member_that_android_lacks_and_one_that_is_too_new_are_named(tmp_path: Path) -> None:
    jar = _jar(tmp_path, {"Torch.java": _TORCH, "App.java": _APP})
    stubs = tmp_path / "stubs/android-stubs/hardware/__init__.pyi"
    stubs.parent.mkdir(parents=True)
    stubs.write_text(_STUBS)
    levels = tmp_path / "levels.d.ts"
    levels.write_text(_LEVELS)
    empty = tmp_path / "delta.txt"
    empty.write_text("# nothing\n")

    found = problems(jar, ApiStubs(tmp_path / "stubs"), Levels(levels), min_sdk=26, delta=empty)

    assert found == [
        "android/hardware/Torch.explode()V is not in API 36",
        "android/hardware/Torch.warm(I)V is of API 31, and the app runs from 26 on",
    ]


@pytest.mark.slow
def test_api_36_itself_refuses_what_it_lacks(tmp_path: Path) -> None:
    stubs = next(TOOLS.glob("chaquopy-stubs-android-*"), None)
    if stubs is None or not any(TOOLS.glob("nativescript-types-android-*")):
        pytest.skip("the signatures of API 36 were not fetched: run `make apk`")
    view = "package android.view; public class Window { public void setColorMood(int i) {} }"
    app = "class App { void f(android.view.Window w) { w.setColorMood(1); } }"
    jar, levels = _jar(tmp_path, {"Window.java": view, "App.java": app}), Levels(api_levels())
    delta = tmp_path / "delta.txt"
    wrong = "field COLOR_MODE_HDR I 3\nfield COLOR_MODE_WIDE I 1"
    text = (CI / "api-delta.txt").read_text()
    delta.write_text(text.replace("field COLOR_MODE_HDR I 2", wrong))

    assert problems(jar, ApiStubs(stubs), levels, min_sdk=26, delta=delta) == [
        "android/view/Window.setColorMood(I)V is not in API 36",
        "delta.txt: android/content/pm/ActivityInfo.COLOR_MODE_HDR is not 3",
        "delta.txt: android/content/pm/ActivityInfo.COLOR_MODE_WIDE is not in API 36",
    ]
