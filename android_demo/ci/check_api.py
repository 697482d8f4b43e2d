"""Holds every `android.*` member that the app refers to against Android API 36.

The app is compiled against API 23 and a few added lines (`api-delta.txt`), so that the compiler
alone proves little. What is newer than the app's minimum is refused too, unless it is known to be
guarded by a version check.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from android_demo.ci.api_stubs import ApiStubs, arguments_of
from android_demo.ci.build import run
from android_demo.ci.paths import CI

DELTA = CI / "api-delta.txt"
#: Members newer than the minimum that the app calls behind `Build.VERSION.SDK_INT`.
GUARDED = {("android/graphics/Bitmap", "hasGainmap")}


@dataclass(frozen=True, order=True)
class Reference:
    """A use of a field or method, by its JVM names."""

    owner: str
    member: str
    descriptor: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.member}{self.descriptor if '(' in self.descriptor else ''}"


def problems(
    jar: Path, stubs: ApiStubs, levels: Levels, *, min_sdk: int, delta: Path = DELTA
) -> list[str]:
    """A sentence for each reference of `jar`, and each line of `delta`, that does not hold."""
    found = []
    for reference in sorted(references(jar)):
        owner = stubs.declares(reference.owner, reference.member, reference.descriptor)
        if owner is None:
            found.append(f"{reference} is not in API 36")
        elif (owner, reference.member) not in GUARDED:
            since = levels.since(owner, reference.member, reference.descriptor)
            if since > min_sdk:
                found.append(f"{reference} is of API {since}, and the app runs from {min_sdk} on")
    return found + delta_problems(delta, stubs, levels)


def references(jar: Path) -> set[Reference]:
    """The `android.*` members that the classes of `jar` use."""
    with zipfile.ZipFile(jar) as archive:
        names = [n.removesuffix(".class") for n in archive.namelist() if n.endswith(".class")]
    ours = [name.replace("/", ".") for name in names if not name.startswith("META-INF")]
    text = run(["javap", "-v", "-p", "-cp", jar, *ours])
    pattern = r'= (?:Interface)?(?:Fieldref|Methodref)\s+\S+\s+// ([^.\s]+)\.("?[\w<>$]+"?):(\S+)'
    return {
        Reference(owner, member.strip('"'), descriptor)
        for owner, member, descriptor in re.findall(pattern, text)
        if owner.startswith("android/")
    }


def delta_problems(delta: Path, stubs: ApiStubs, levels: Levels) -> list[str]:
    """What the added lines say of API 36 that is not so."""
    found = []
    for reference, value in _delta(delta):
        if stubs.declares(reference.owner, reference.member, reference.descriptor) is None:
            found.append(f"{delta.name}: {reference} is not in API 36")
        elif value is not None and levels.constant(reference.owner, reference.member) != value:
            found.append(f"{delta.name}: {reference} is not {value}")
    return found


class Levels:
    """Since when each member exists, and what constants are, from NativeScript's declarations."""

    def __init__(self, declarations: Path) -> None:
        self._text = declarations.read_text()
        marks = re.finditer(r"public static class: java\.lang\.Class<([\w.]+)[^;]*;", self._text)
        found = [(mark[1], mark.start(), mark.end()) for mark in marks]
        ends = [start for _, start, _ in found[1:]] + [len(self._text)]
        # Where each class's declaration is: its mark, and its body up to the next class's.
        self._places = {
            name: (start, begin, end)
            for (name, start, begin), end in reversed(list(zip(found, ends, strict=True)))
        }

    def since(self, owner: str, member: str, descriptor: str) -> int:
        """The API level; 1 where nothing is said.

        Overloads are told apart by how many parameters they take, and the oldest of them counts.
        """
        level, body = self._class(owner)
        name = "constructor" if member == "<init>" else re.escape(member)
        pattern = rf"(?:@since (\d+) \*/\s*)?public (?:static )?{name}(?:<[^(]*>)?\(([^)]*)\)"
        count = len(arguments_of(descriptor)) if descriptor.startswith("(") else 0
        found = [
            int(since or 1)
            for since, parameters in re.findall(pattern, body)
            if _count(parameters) == count
        ]
        return max(level, min(found, default=1))

    def constant(self, owner: str, member: str) -> str | None:
        """The value of a constant as text."""
        found = re.search(
            rf'public static {re.escape(member)}: "?([^";]+)"?;', self._class(owner)[1]
        )
        return found[1] if found else None

    def _class(self, owner: str) -> tuple[int, str]:
        """The level of a class, and its declaration up to the next class's."""
        place = self._places.get(owner.replace("/", ".").replace("$", "."))
        if place is None:
            return 1, ""
        mark, begin, end = place
        header = self._text[max(0, self._text.rfind("export", 0, mark) - 200) : mark]
        level = re.search(r"@since (\d+)[^/]*\*/\s*$", header.rsplit("export", 1)[0])
        return int(level[1]) if level else 1, self._text[begin:end]


def _count(parameters: str) -> int:
    """How many parameters a declaration lists; commas inside type arguments do not separate."""
    plain = re.sub(r"<[^<>]*>", "", re.sub(r"<[^<>]*>", "", parameters))
    return len(plain.split(",")) if plain.strip() else 0


def _delta(file: Path) -> Iterator[tuple[Reference, str | None]]:
    """Each added member, with its value when it is a constant."""
    owner = ""
    for line in file.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        kind, *words = line.split()
        if kind == "class":
            owner = words[0]
        else:
            yield Reference(owner, words[0], words[1]), words[2] if kind == "field" else None
