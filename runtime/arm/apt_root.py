"""Debian packages of any suite and architecture, downloaded and unpacked beside the system.

The system's own package lists and state are left alone: an apt root of its own holds both.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pockethdr.errors import Unavailable

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_NEEDS = "a Debian host with apt, and its mirror within reach"


class AptRoot:
    """Packages of one suite and architecture, from the mirror that the system itself uses.

    Args:
        folder: where lists and downloads go; reused when it exists.
        suite: `bookworm-backports`, `sid`…; None for the system's own.
        architecture: Debian's name, `amd64` or `arm64`.

    Raises:
        Unavailable: no apt here, or the mirror does not answer.
    """

    def __init__(self, folder: Path, *, suite: str | None, architecture: str = "amd64") -> None:
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Unavailable("apt-get is not here", install=_NEEDS)
        for part in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self.folder, self.suite = folder.resolve(), suite
        self._options = [
            *("-o", f"APT::Architecture={architecture}", "-o", "APT::Architectures="),
            *("-o", f"Dir::State::lists={self.folder}/lists"),
            *("-o", f"Dir::Cache={self.folder}/cache", "-o", "Dir::State::status=/dev/null"),
            *("-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=root"),
        ]
        if suite is not None:
            sources = self.folder / "sources.list"
            sources.write_text(f"deb [signed-by={_KEYRING}] {_mirror()} {suite} main\n")
            self._options += ["-o", f"Dir::Etc::sourcelist={sources}"]
            self._options += ["-o", "Dir::Etc::sourceparts=/dev/null"]
        self._run("update")

    def download(self, packages: Sequence[str]) -> list[Path]:
        """The .deb files of `packages`, each `name` or `name=version`.

        Raises:
            Unavailable: one is not in the suite.
        """
        return [self._downloaded(package) for package in packages]

    def unpack(self, packages: Sequence[str], into: Path) -> Path:
        """Download `packages` and unpack them over each other."""
        for deb in self.download(packages):
            unpack_deb(deb, into)
        return into

    def _downloaded(self, package: str) -> Path:
        folder = self.folder / "debs" / package.replace("=", "_").replace(":", "-")
        if not list(folder.glob("*.deb")):
            folder.mkdir(parents=True, exist_ok=True)
            self._run("download", package, cwd=folder)
        return next(folder.glob("*.deb"))

    def _run(self, *arguments: str, cwd: Path | None = None) -> None:
        command = ["apt-get", "-qq", *self._options, *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = " ".join(done.stderr.split()[:40])
            where = self.suite or "the system's suite"
            raise Unavailable(
                f"apt-get {' '.join(arguments)} of {where} failed: {reason}", install=_NEEDS
            )


def unpack_deb(deb: Path, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(into)], check=True)


def _mirror() -> str:
    """Where the system gets its own packages from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    plain = [uri for uri in done.stdout.split() if "security" not in uri]
    if not plain:
        raise Unavailable("apt has no source of packages", install=_NEEDS)
    return plain[0]
