"""A phone on the desk: pushing, running and asking, through the user's own `adb`."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pockethdr.errors import PocketError, Unavailable

_TIMEOUT_S = 600
_STATES = {
    "unauthorized": "unlock the phone and accept this computer's key in the dialog",
    "offline": "plug the cable in again, then `adb reconnect`",
    "no permissions": "add a udev rule for the phone, or run `adb` as another user",
}


@dataclass(frozen=True)
class Phone:
    """What a phone says of itself."""

    serial: str
    model: str
    android: str
    chip: str


class Adb:
    """One device that answers.

    Args:
        serial: which, when several are connected; empty for the only one.
        program: the adb to run.

    Raises:
        Unavailable: adb is not installed, or no device is connected.
        PocketError: several are, the named one is not, or it does not let us in.
    """

    def __init__(self, serial: str = "", *, program: str = "adb") -> None:
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed", install="apt-get install adb")
        self._program = program
        self.serial = _chosen(self._devices(), serial)

    def shell(self, command: str) -> str:
        """Standard output of a command on the device, and its errors.

        Raises:
            PocketError: it failed.
        """
        return self._call("shell", command)

    def push(self, file: Path, to: str) -> None:
        self._call("push", str(file), to)

    def pull(self, file: str, to: Path) -> None:
        self._call("pull", file, str(to))

    def phone(self) -> Phone:
        model, android, board, chip = (
            self.shell(f"getprop {name}").strip()
            for name in (
                "ro.product.model",
                "ro.build.version.release",
                "ro.board.platform",
                "ro.soc.model",
            )
        )
        return Phone(self.serial, model, android, chip or board)

    def thermal_status(self) -> int | None:
        """Android's own scale from 0 (none) to 6 (shutdown); None when it does not say."""
        found = re.search(r"Thermal Status: (\d+)", self.shell("dumpsys thermalservice"))
        return int(found[1]) if found else None

    def _devices(self) -> dict[str, str]:
        """Serial → state."""
        lines = self._run(["devices"]).splitlines()
        listed = [re.fullmatch(r"(\S+)\s+(device|\S.*)", line.strip()) for line in lines]
        rows = [m for m in listed if m and not m[0].startswith(("List of", "*"))]
        return {m[1]: m[2] for m in rows}

    def _call(self, *arguments: str) -> str:
        return self._run(["-s", self.serial, *arguments])

    def _run(self, arguments: list[str]) -> str:
        command = [self._program, *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired as error:
            raise PocketError(
                f"`{' '.join(command)}` did not answer in {_TIMEOUT_S} s",
                fix="plug the cable in again, then run the same command",
            ) from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-300:]
            raise PocketError(f"`{' '.join(arguments)}` failed on the device: {said}")
        return done.stdout + done.stderr if arguments[0] == "-s" else done.stdout


def _chosen(devices: dict[str, str], serial: str) -> str:
    if not devices:
        raise Unavailable(
            "no Android device is connected",
            install="plug one in with USB debugging switched on; `adb devices` must list it",
        )
    if not serial and len(devices) > 1:
        raise PocketError(
            f"{len(devices)} devices are connected: {', '.join(devices)}",
            expected="one, or its serial",
            fix=f"say which: --adb {next(iter(devices))}",
        )
    chosen = serial or next(iter(devices))
    if chosen not in devices:
        raise PocketError(f"no device {chosen!r}", expected=f"one of {', '.join(devices)}")
    state = devices[chosen]
    if state != "device":
        fix = next((text for name, text in _STATES.items() if state.startswith(name)), "")
        raise PocketError(f"device {chosen} is {state}", expected="device", fix=fix)
    return chosen
