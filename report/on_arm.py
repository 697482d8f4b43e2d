"""Adds to the rows of TFLite artifacts what they do on ARM code; see `runtime/arm/check.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pockethdr.brackets.bracket import Bracket
from pockethdr.errors import ArtifactError, Unavailable
from pockethdr.report.row import Row
from pockethdr.runtime.agreement import LEAST_DB
from pockethdr.runtime.arm.check import ArmCheck, check_on_arm
from pockethdr.runtime.arm.tools import ArmHost, arm_host
from pockethdr.runtime.artifact import deployed


def with_arm(rows: Sequence[Row], out: Path, bracket: Bracket) -> tuple[Row, ...]:
    """The rows, those of TFLite artifacts that ran here judged on emulated ARM too.

    Without the tools each says so, and is judged as before.
    """
    try:
        host = arm_host()
    except Unavailable as missing:
        return tuple(
            _noted(row, f"on ARM: skipped: {missing.reason}; {missing.install}")
            if _concerned(row)
            else row
            for row in rows
        )
    return tuple(_judged(row, out, bracket, host) if _concerned(row) else row for row in rows)


def _concerned(row: Row) -> bool:
    return row.target == "tflite" and row.executed and row.artifact is not None


def _judged(row: Row, out: Path, bracket: Bracket, host: ArmHost) -> Row:
    try:
        found = check_on_arm(deployed(out / str(row.artifact)), bracket, host)
    except ArtifactError as error:
        return replace(_noted(row, f"on ARM: {error.what}"), passed=False)
    noted = replace(_noted(row, f"on ARM: {sentence(found)}"), arm=found.to_json())
    return noted if found.passed else replace(noted, passed=False)


def sentence(found: ArmCheck) -> str:
    """What was found, for people."""
    where = f"{found.tiles} tiles on an emulated {found.cpu}"
    if found.db is None:
        return f"returns NaN or infinity, {where}"
    if found.fp16:
        return f"FP16 arithmetic at {found.db:.1f} dB of FP32 (needs {LEAST_DB:g}), {where}"
    if found.differing == 0:
        return f"equal to x86 bit for bit, {where}"
    return (
        f"{found.differing} of {found.values} values differ from x86, by "
        f"{found.max_difference:.2g} at most, the first at (tile, row, column, channel) "
        f"{found.where}: {found.db:.1f} dB (needs {LEAST_DB:g}), {where}"
    )


def _noted(row: Row, note: str) -> Row:
    return replace(row, reason="; ".join(part for part in (row.reason, note) if part))
