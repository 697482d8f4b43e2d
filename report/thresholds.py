"""What passes. Apart from the metrics, so that a stored row can be judged again by other bounds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pockethdr.errors import PocketError
from pockethdr.report.row import Row


@dataclass(frozen=True)
class Thresholds:
    """Least PSNR-µ against the PyTorch reference, in dB, on the worst bracket."""

    fp32: float = 60.0
    fp16: float = 60.0
    int8: float = 40.0

    def of(self, precision: str) -> float:
        """The bound of a precision.

        Raises:
            PocketError: there is none.
        """
        bounds = self.to_json()
        if precision not in bounds:
            raise PocketError(f"no threshold for {precision!r}", expected=", ".join(bounds))
        return bounds[precision]

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def judge(row: Row, thresholds: Thresholds | None = None) -> bool | None:
    """Whether a row passes; None when this host could not run it.

    A row that was executed and has no figure failed: the artifact does not load, crashes, or
    returns what is no image.
    """
    if not row.executed:
        return None
    measured = row.psnr_mu_vs_reference
    return measured is not None and measured >= (thresholds or Thresholds()).of(row.precision)
