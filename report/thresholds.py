"""What passes. Apart from the metrics, so that a stored row can be judged again by other bounds."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pockethdr.errors import PocketError
from pockethdr.report.row import Row


@dataclass(frozen=True)
class Thresholds:
    """What an artifact must reach, in dB.

    Attributes:
        fp32, fp16, int8, dynint8: least PSNR-µ against the PyTorch reference, on the worst bracket.
        loss: most that PSNR-µ and PSNR-ℓ against ground truth may lose on the mean of the brackets
            that have one. For INT8 this is the stricter one: weights tuned for it are those of
            another network, which scores as well (docs/decisions/009-int8-by-fine-tuning.md).
    """

    fp32: float = 60.0
    fp16: float = 60.0
    int8: float = 35.0
    dynint8: float = 44.0
    loss: float = 0.5

    def of(self, precision: str) -> float:
        """The bound of a precision.

        Raises:
            PocketError: there is none.
        """
        bounds = self.by_precision()
        if precision not in bounds:
            raise PocketError(f"no threshold for {precision!r}", expected=", ".join(bounds))
        return bounds[precision]

    def by_precision(self) -> dict[str, float]:
        return {name: bound for name, bound in self.to_json().items() if name != "loss"}

    def holds_loss(self, row: Row) -> bool:
        """Whether the row loses no more than is allowed; so does one without ground truth."""
        losses = [db for db in (row.loss_mu_db, row.loss_l_db) if db is not None]
        return all(db >= -self.loss for db in losses)

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def judge(row: Row, thresholds: Thresholds | None = None) -> bool | None:
    """Whether a row passes; None when this host could not run it.

    A row that was executed and has no figure failed: the artifact does not load, crashes, or
    returns what is no image. So did one whose files hold other integers or scales than were
    imposed, or not all of them, however good its picture.
    """
    if not row.executed:
        return None
    bounds, measured = thresholds or Thresholds(), row.psnr_mu_vs_reference
    return (
        measured is not None
        and measured >= bounds.of(row.precision)
        and bounds.holds_loss(row)
        and row.is_as_imposed
    )
