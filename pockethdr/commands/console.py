"""What a command shows while it works: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Narrower, a table loses whole columns; a log has no width, and is searched, not looked at.
_LEAST_WIDTH, _LOG_WIDTH = 80, 200
# How long a log stays silent within a step.
_PATIENCE_S = 10.0


def print_table(table: Any) -> None:
    """Print a rich table on standard output, with all of its columns."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, _LEAST_WIDTH) if console.is_terminal else _LOG_WIDTH
    console.print(table)


@contextmanager
def stages(title: str) -> Iterator[Callable[[str], None]]:
    """Show one stage after another; yields the function that names the next.

    A terminal gets a spinner with the time spent, anything else one line per stage on stderr.
    """
    if not sys.stderr.isatty():
        yield _line_writer(title)
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with _progress(*columns) as bar:
        task = bar.add_task(title)
        yield lambda text: bar.update(task, description=f"{title}: {text}")


@contextmanager
def steps(title: str) -> Iterator[Callable[[str, float, int], None]]:
    """Show a bar; yields the function that takes (what was just done, steps done, steps in all).

    Without a terminal each named step is a line on stderr, and so is how far a long one has come.
    """
    if not sys.stderr.isatty():
        yield _step_writer(title)
        return
    with _progress() as bar:
        task = bar.add_task(title, total=None)  # it moves until the first step is done
        yield lambda what, done, total: bar.update(
            task, description=f"{title}: {what}" if what else None, completed=done, total=total
        )


def _step_writer(title: str) -> Callable[[str, float, int], None]:
    write, spoke = _line_writer(title), time.perf_counter()

    def step(what: str, done: float, total: int) -> None:
        nonlocal spoke
        now = time.perf_counter()
        if what or now - spoke > _PATIENCE_S:
            spoke = now
            write(f"{what} ({done}/{total})" if what else f"{done:.1f} of {total} steps")

    return step


def _progress(*columns: Any) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=True)


def _line_writer(title: str) -> Callable[[str], None]:
    begin = time.perf_counter()

    def write(text: str) -> None:
        print(f"[{time.perf_counter() - begin:6.1f} s] {title}: {text}", file=sys.stderr)

    return write
