"""What phones and Macs measured of an export (`runtime.phone.rows`), as its report shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pockethdr.export.manifest import Manifest
from pockethdr.report.terminal import decibel
from pockethdr.runtime.phone.rows import DeviceRow

DEVICE_HEADERS = (
    ("PSNR-µ vs host", "dB of the output against the same artifact on the host"),
    ("ms", "median of one tile on the device"),
    ("peak MB", "largest memory of the measuring process"),
)


@dataclass(frozen=True)
class DeviceLine:
    """One row of the table.

    Attributes:
        name: `tflite int8`.
        figures: as text, in the order of `DEVICE_HEADERS`.
        notes: what else was recorded.
    """

    name: str
    row: DeviceRow
    figures: tuple[str, ...]
    notes: str


def of_export(rows: Sequence[DeviceRow], manifest: Manifest) -> list[DeviceRow]:
    """The rows of artifacts that the export still holds: others say nothing of it."""
    known = {artifact.sha256 for artifact in manifest.artifacts}
    return [row for row in rows if row.sha256 in known]


def device_lines(rows: Sequence[DeviceRow], manifest: Manifest) -> list[DeviceLine]:
    """The table of `of_export` rows."""
    names = {a.sha256: f"{a.target} {a.precision}" for a in manifest.artifacts}
    return [DeviceLine(names[row.sha256], row, _figures(row), _notes(row)) for row in rows]


def device_verdict(rows: Sequence[DeviceRow]) -> str:
    """A sentence behind the report's verdict; empty when no output was compared on a device."""
    judged = [row for row in rows if row.passed is not None]
    failed = [row for row in judged if row.passed is False]
    if not judged:
        return ""
    if not failed:
        return " On devices, every output that was compared agrees."
    where = ", ".join(f"{row.artifact} on the {row.accelerator} of {row.device}" for row in failed)
    return f" On devices, {len(failed)} of {len(judged)} outputs disagree with the host: {where}."


def _figures(row: DeviceRow) -> tuple[str, ...]:
    median = (row.latency_ms or {}).get("p50")
    return (
        decibel(row.psnr_vs_host),
        "–" if median is None else f"{median:.2f}",
        "–" if row.peak_memory_mb is None else f"{row.peak_memory_mb:.0f}",
    )


def _notes(row: DeviceRow) -> str:
    others = {k: v for k, v in (row.latency_ms or {}).items() if k != "p50"}
    parts = [
        row.runtime,
        "" if row.runs is None else f"{row.runs} runs",
        ", ".join(f"{name} {value:.2f} ms" for name, value in others.items()),
        _thermal(row),
        row.reason,
    ]
    return " · ".join(part for part in parts if part)


def _thermal(row: DeviceRow) -> str:
    known = [str(state) for state in row.thermal or () if state is not None]
    return f"thermal status {' → '.join(known)}" if known else ""
