"""What a command shows while it works: a live line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stages(title: str) -> Iterator[Callable[[str], None]]:
    """Show one stage after another; yields the function that names the next.

    A terminal gets a spinner with the time spent, anything else one line per stage on stderr.
    """
    if not sys.stderr.isatty():
        yield _line_writer(title)
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title)
        yield lambda text: bar.update(task, description=f"{title}: {text}")


@contextmanager
def counted(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; yields the function that takes (done, in all). Silent where no terminal is."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _line_writer(title: str) -> Callable[[str], None]:
    begin = time.perf_counter()

    def write(text: str) -> None:
        print(f"[{time.perf_counter() - begin:6.1f} s] {title}: {text}", file=sys.stderr)

    return write
