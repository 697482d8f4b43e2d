"""The picture of a search: what each group of operations costs alone on integers."""

from __future__ import annotations

from pockethdr.export.search import Found
from pockethdr.report.bars import Bar, bars


def picture(found: Found) -> str:
    """An SVG: a bar for the loss in PSNR-µ, a tick for that in PSNR-ℓ; what stays float stands out.

    Groups are in the order of the network.
    """
    kept = {reverted.group for reverted in found.reverted}
    rows = [
        Bar(
            name,
            "stays float" if name in kept else "",
            -loss.mu_db,
            "kept" if name in kept else "int8",
            f"{-loss.mu_db:.3f} / {-loss.l_db:.3f}",
            -loss.l_db,
        )
        for name, loss in found.sensitivity.items()
    ]
    most = max([found.max_loss, *(loss.worst for loss in found.sensitivity.values())])
    after = found.confirmed
    return bars(
        rows,
        title=f"{found.recipe.name}: decibels lost by each group alone on integers",
        note=(
            f"bar: PSNR-µ; tick: PSNR-ℓ; green stays float; together they lose "
            f"{-after.mu_db:.3f} / {-after.l_db:.3f} dB on brackets not searched"
        ),
        unit="dB",
        most=most,
    )
