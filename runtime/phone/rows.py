"""What devices measured of an export's artifacts: rows of `OUT/devices.json`.

They come from `bench.py`, or from a file that another device's script printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pockethdr.errors import ArtifactError
from pockethdr.export.manifest import read_manifest
from pockethdr.files import write_bytes

DEVICES_NAME = "devices.json"
_MEASURE = "remove it, then measure again"
_HUGE = 1e12
_SCRIPT = "print it as the script of docs/ios.md does"


@dataclass(frozen=True)
class DeviceRow:
    """One artifact on one accelerator of one device.

    Attributes:
        latency_ms: percentiles of one tile, as far as the runner gives them, e.g. `p50`, `p95`.
        thermal: status before and after, from 0 (none) to 6; or what the device calls it.
        psnr_vs_host: PSNR-µ in dB of the output tensor against the same artifact on the host.
        passed: None when the output was not compared.
        reason: why a figure is missing.
    """

    device: str
    system: str
    runtime: str
    accelerator: str
    artifact: str
    sha256: str
    latency_ms: dict[str, float] | None
    runs: int | None
    thermal: list[Any] | None
    peak_memory_mb: float | None
    psnr_vs_host: float | None
    passed: bool | None
    reason: str = ""


def add_rows(out: Path, rows: Sequence[DeviceRow]) -> list[DeviceRow]:
    """Put rows into `OUT/devices.json`, each in place of an older one of the same kind."""
    merged = {_key(row): row for row in (*read_rows(out), *rows)}
    text = json.dumps([asdict(row) for row in merged.values()], indent=1, ensure_ascii=False)
    write_bytes(out / DEVICES_NAME, (text + "\n").encode(), overwrite=True)
    return list(merged.values())


def read_rows(out: Path) -> list[DeviceRow]:
    """The device rows of an export; none when nothing was measured.

    Raises:
        ArtifactError: the file holds something else.
    """
    file = out / DEVICES_NAME
    if not file.is_file():
        return []
    found = _json(file, _MEASURE)
    if not isinstance(found, list):
        raise ArtifactError(f"{file}: {found!r:.60}", expected="a list of rows", fix=_MEASURE)
    return [row_of(data, file, _MEASURE) for data in found]


def imported(result: Path, out: Path) -> DeviceRow:
    """A row from a file that another device's script printed, see docs/ios.md.

    Raises:
        ArtifactError: not such a file, or of an artifact that is not in `out`.
    """
    row = row_of(_json(result, _SCRIPT), result, _SCRIPT)
    known = {record.sha256 for record in read_manifest(out).artifacts}
    if row.sha256 not in known:
        raise ArtifactError(
            f"{result}: measured an artifact of sha256 {row.sha256[:12]}…, not one of {out}",
            expected="a result of an artifact of this export",
            fix="copy the export to the device again and measure again",
        )
    return row


def row_of(data: Any, source: Path, fix: str) -> DeviceRow:
    """A row from its JSON.

    Args:
        source: the file that it is from, and `fix` how to mend that.

    Raises:
        ArtifactError: fields are missing, unknown or of the wrong kind.
    """
    names = {field.name for field in fields(DeviceRow)}
    if not isinstance(data, dict) or not names - {"reason"} <= set(data) <= names:
        found = ", ".join(sorted(data)) if isinstance(data, dict) else f"{data!r:.60}"
        expected = f"the fields {', '.join(sorted(names))}"
        raise ArtifactError(f"{source}: a row of {found or 'nothing'}", expected=expected, fix=fix)
    for name, value in data.items():
        expected, fits = _KINDS.get(name, _TEXT)
        if not fits(value):
            raise ArtifactError(f"{source}: {name} is {value!r:.60}", expected=expected, fix=fix)
    return DeviceRow(**data)


def _json(file: Path, fix: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{file}: no such file", expected="JSON", fix=fix) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file} is not JSON ({error})", expected="JSON", fix=fix) from error


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    """A finite one: JSON's integers know no end, and Python reads NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE


def _is_sha256(value: Any) -> bool:
    return _is_text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _are_percentiles(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(_is_number(each) and each >= 0 for each in value.values())
    )


def _is_count(value: Any) -> bool:
    return value is None or (_is_number(value) and value >= 1 and value == int(value))


def _is_figure(value: Any) -> bool:
    return value is None or _is_number(value)


def _are_states(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and all(each is None or _is_text(each) or _is_number(each) for each in value)
    )


def _is_verdict(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _key(row: DeviceRow) -> tuple[str, ...]:
    return row.device, row.system, row.runtime, row.accelerator, row.sha256


_TEXT = ("text", _is_text)
# What a field of a row may hold, where that is not text.
_KINDS = {
    "sha256": ("64 hexadecimal digits, as the manifest has them", _is_sha256),
    "latency_ms": ("percentiles in milliseconds by their names, or null", _are_percentiles),
    "runs": ("a whole number from 1 on, or null", _is_count),
    "thermal": ("a list of states, before and after, or null", _are_states),
    "peak_memory_mb": ("MB, or null", _is_figure),
    "psnr_vs_host": ("dB, or null", _is_figure),
    "passed": ("true, false or null", _is_verdict),
}
