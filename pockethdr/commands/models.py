"""`pockethdr models`: the table of named networks."""

from __future__ import annotations

import click


@click.command()
def models() -> None:
    """List the named networks, what each is for, and which come with weights.

    \b
    Example:
      pockethdr models

    Everywhere a MODEL is asked for, your own network does as well: package.module:factory or
    file.py:factory, a callable without arguments that returns an nn.Module whose
    forward(short, mid, long) returns the HDR image.
    """
    from rich.console import Console
    from rich.table import Table

    from pockethdr.models import zoo

    table = Table("name", "parameters, raw", "weights for", "purpose", box=None)
    for row in (zoo.variant(name) for name in zoo.names() if name.count("-") == 1):
        count = sum(p.numel() for p in zoo.build(row.name, "raw").parameters())
        shipped = [d for d in zoo.DOMAINS if zoo.shipped_weights(row.name, d)]
        table.add_row(row.name, f"{count:,}", ", ".join(shipped) or "none", row.purpose)
    Console().print(table)
    click.echo(
        f"Each also as NAME-{'|'.join(zoo.PHI_MODES)}: what the dynamic kernels vary over; "
        f"a bare NAME means {zoo.DEFAULT_PHI}."
    )
