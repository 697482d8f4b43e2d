"""`pockethdr validate`, `report`, `compare`: what each artifact lost, and whether that passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pockethdr.commands import (
    Number,
    brackets_option,
    command_line,
    model_option,
    ray_option,
    threads_option,
    trust_named,
)
from pockethdr.commands.console import print_table, steps
from pockethdr.files import check_place

if TYPE_CHECKING:
    from pockethdr.report.row import Row
    from pockethdr.report.thresholds import Thresholds
    from pockethdr.report.validate import Evaluation
    from pockethdr.runtime.phone.rows import DeviceRow

GATE_FAILED = 1


class Gates(click.ParamType):
    """`int8=40,loss=0.3` → the default `Thresholds` with these changed."""

    name = "NAME=DB[,…]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Thresholds:
        from pockethdr.report.thresholds import Thresholds

        if isinstance(value, Thresholds):
            return value
        known, changed = Thresholds().to_json(), dict[str, float]()
        for part in str(value).split(","):
            name, _, bound = part.strip().partition("=")
            if name not in known:
                self.fail(f"unknown gate {name!r}; known: {', '.join(known)}", param, ctx)
            changed[name] = Number(0, 200).convert(bound, param, ctx)
        return Thresholds(**{**known, **changed})


def _judging(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `validate` and `report` have in common."""
    for option in (
        model_option,
        ray_option("Judge brackets"),
        click.option(
            "--arm", is_flag=True, help="Also on emulated ARM code: LiteRT's kernels for phones."
        ),
        click.option(
            "--gates",
            "thresholds",
            type=Gates(),
            help="Other bounds than those that the report states: least PSNR-µ of a precision "
            "against the reference, and most that may be lost, such as int8=40,loss=0.3.",
        ),
        threads_option(default=2, help="CPU threads of the reference and of each runtime."),
        brackets_option,
        click.argument("out", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


@click.command()
@_judging
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write the rows.")
@click.pass_context
def validate(
    context: click.Context,
    out: Path,
    brackets: Path,
    json_file: Path | None,
    model: str | None,
    **how: Any,
) -> None:
    """Run every artifact of OUT on real brackets and judge it against the PyTorch reference.

    Exits with 1 when an artifact fails its threshold. An artifact that this host cannot run is
    listed with the reason, and is neither passed nor failed. With --ray the workers must find OUT
    and the brackets under the same paths; latency is measured in this process all the same.

    \b
    Examples:
      pockethdr validate out/m32 --brackets photos --json rows.json
      pockethdr validate out/m32 --brackets photos --ray local
    """
    from pockethdr.report.validate import evaluate

    if json_file is not None:
        check_place(json_file, overwrite=True)
    trust_named(model, out)
    command = command_line(context)
    with steps("validating") as step:
        found = evaluate(out, [brackets], command=command, progress=step, **how)
    if json_file is not None:
        found.write_json(json_file)
    _print(found)
    context.exit(exit_code(found.rows))


@click.command()
@_judging
@click.pass_context
def report(
    context: click.Context, out: Path, brackets: Path, model: str | None, **how: Any
) -> None:
    """Validate OUT, as `validate` does, and write OUT/report.json and OUT/report.html.

    The page is one file without outside references: the table, what phones measured (`pockethdr
    bench`), accuracy against latency, and crops of reference, artifact and amplified difference.
    Exits with 1 when an artifact fails, here or on a device.

    \b
    Example:
      pockethdr report out/m32 --brackets photos
    """
    from pockethdr.report.devices import of_export
    from pockethdr.report.report import write_report

    trust_named(model, out)
    check_place(out / "report.html", overwrite=True)
    command = command_line(context)
    with steps("judging") as step:
        found = write_report(out, [brackets], command=command, progress=step, **how)
    _print(found)
    click.echo(f"report: {out / 'report.html'}")
    context.exit(exit_code([*found.rows, *of_export(found.devices, found.manifest)]))


@click.command()
@click.argument("outs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path), required=True, help="The page to write.")
@click.option(
    "--brackets", type=click.Path(path_type=Path), help="Also picture each network on these."
)
@click.pass_context
def compare(
    context: click.Context, outs: tuple[Path, ...], html: Path, brackets: Path | None
) -> None:
    """Set the judged exports OUTS side by side on one page.

    Each must have its report, made on the same brackets and host: the figures come from there.
    Exits with 1 when an artifact of any failed.

    \b
    Example:
      pockethdr compare out/m32 out/ahdrnet --brackets photos --html out/compare.html
    """
    from pockethdr.report.compare import write_comparison

    check_place(html, overwrite=True)
    shown = [brackets] if brackets else []
    rows = write_comparison(outs, html, brackets=shown, command=command_line(context))
    print_rows(rows)
    click.echo(f"comparison: {html}")
    context.exit(exit_code(rows))


def _print(found: Evaluation) -> None:
    """The table, the verdict in a sentence, and what must be known of the brackets."""
    from pockethdr.report.report import verdict

    print_rows(found.rows)
    click.echo(verdict(found.rows, found.thresholds).replace("\u00a0", " "))
    for each in found.brackets:
        for note in each.notes:
            click.echo(f"{each.bracket}: {note}")
    for note in found.left_out:
        click.echo(note)


def print_rows(rows: Sequence[Row]) -> None:
    """The table of what was judged."""
    from pockethdr.report.terminal import table

    print_table(table(rows))


def exit_code(rows: Sequence[Row | DeviceRow]) -> int:
    return GATE_FAILED if any(row.passed is False for row in rows) else 0
