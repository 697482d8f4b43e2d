"""What is recorded of an artifact: one `Row` for all brackets, one `Detail` for each.

A figure that was not measured is None, and the row's `reason` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pockethdr.export.targets import PRECISIONS, TARGETS
from pockethdr.runtime.agreement import IDENTICAL_DB


@dataclass(frozen=True)
class Detail:
    """One artifact on one bracket. PSNR in dB; the figures against ground truth may be None.

    `bracket_sha256` is of what the network is fed and judged by; None in reports of older versions.
    `reference_*` are of the PyTorch network on the same tiles. `loss_*` are artifact minus
    reference: negative when something was lost.
    """

    bracket: str
    target: str
    precision: str
    psnr_mu_vs_reference: float
    psnr_l_vs_reference: float
    psnr_mu: float | None = None
    psnr_l: float | None = None
    ssim_mu: float | None = None
    ssim_l: float | None = None
    reference_psnr_mu: float | None = None
    reference_psnr_l: float | None = None
    reference_ssim_mu: float | None = None
    reference_ssim_l: float | None = None
    loss_mu_db: float | None = None
    loss_l_db: float | None = None
    bracket_sha256: str | None = None

    @property
    def identical(self) -> bool:
        """Whether the artifact returned exactly what the reference did."""
        return self.psnr_mu_vs_reference >= IDENTICAL_DB


@dataclass(frozen=True)
class Row:
    """One artifact judged on all brackets.

    Attributes:
        artifact: file name in the output folder; None when it was not built.
        executed: this host ran it, or tried and failed (then `reason` says how).
        reason: why a figure is None, or what else a reader has to know of it; may be empty.
        brackets: names of those that were judged.
        psnr_mu_vs_reference: of the worst bracket, since each of them must pass.
        psnr_mu, psnr_l, ssim_mu, ssim_l: means over the brackets with ground truth.
        loss_mu_db, loss_l_db: mean of artifact minus reference; negative is a loss.
        passed: None when not executed.
        latency_ms: p50, p90, p99 of one tile on this host's CPU.
        int8_mac_share: share in [0, 1] of the multiplications done on integers.
        undelegated_ops: what the runtime's fast path left over, as its check recorded it.
        foreign, missing: what its files hold that their converter was not given, and what was
            given that they do not hold; each a few words. None where files of its kind do not
            tell, or nothing was imposed.
        planned_int8_mac_share: the least that `int8_mac_share` was to be.
        arm: what emulated ARM kernels made of it (`runtime/arm/check.py`); None when not asked for.
    """

    model: str
    domain: str
    target: str
    precision: str
    artifact: str | None
    sha256: str | None
    size_bytes: int | None
    runtime: str | None
    executed: bool
    reason: str
    brackets: tuple[str, ...]
    psnr_mu_vs_reference: float | None
    psnr_mu: float | None
    psnr_l: float | None
    ssim_mu: float | None
    ssim_l: float | None
    loss_mu_db: float | None
    loss_l_db: float | None
    passed: bool | None
    latency_ms: dict[str, float] | None
    threads: int
    peak_memory_mb: float | None
    int8_mac_share: float | None
    undelegated_ops: Any
    arm: dict[str, Any] | None = None
    foreign: tuple[str, ...] | None = None
    missing: tuple[str, ...] | None = None
    planned_int8_mac_share: float | None = None

    @property
    def name(self) -> str:
        """`tflite int8`: how people speak of it."""
        return f"{self.target} {self.precision}"

    @property
    def is_as_imposed(self) -> bool:
        """Whether the artifact holds what it was given and nothing else, as far as files tell."""
        return not (self.foreign or self.missing or self.lacks_integers)

    @property
    def lacks_integers(self) -> bool:
        """Whether less of it is integer than was planned."""
        planned, found = self.planned_int8_mac_share, self.int8_mac_share
        return planned is not None and (found or 0.0) < planned - 1e-6

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """What `to_json` made.

        Raises:
            TypeError, KeyError: it is of another version.
            ValueError: a target or precision that does not exist.
        """
        if data["target"] not in TARGETS or data["precision"] not in PRECISIONS:
            raise ValueError(f"artifact {data['target']!r} {data['precision']!r}")
        found = {field: data.get(field) for field in ("foreign", "missing")}
        tuples = {name: None if value is None else tuple(value) for name, value in found.items()}
        return cls(**{**data, **tuples, "brackets": tuple(data["brackets"])})


def mean_of(details: Sequence[Detail], field: str) -> float | None:
    """Mean of a field over the details that have it; None when none has."""
    values = [value for value in (getattr(d, field) for d in details) if value is not None]
    return float(np.mean(values)) if values else None
