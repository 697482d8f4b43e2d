"""What a training run says of itself: a bar or lines with the time left, and a TensorBoard log."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_EVERY = 100
_KEEP = 0.98


class Progress:
    """Reports a run's steps.

    Args:
        steps: of the whole run; None where time ends it.
        done: steps that an earlier process did.
        log: receives lines; None shows a bar on a terminal, and lines where there is none.
        silent: for all but the main process of a run: no bar, no line, no log.
    """

    def __init__(
        self,
        run: Path,
        steps: int | None,
        done: int,
        log: Callable[[str], None] | None,
        *,
        silent: bool = False,
    ) -> None:
        self.steps, self.first, self.running = steps, done, math.nan
        self.board = None if silent else _board(run, done)
        log = _nowhere if silent else log
        console = Console(stderr=True)
        self.bar = _bar(console) if log is None and console.is_terminal else None
        self.log = log or (self.bar.console.print if self.bar else line_to_stderr)
        self.task = (
            # A bar is drawn before there is a loss to show.
            self.bar.add_task("training", total=steps, completed=done, loss=math.nan, psnr=math.nan)
            if self.bar
            else None
        )

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()
        if self.board:
            self.board.close()

    def step(self, step: int, loss: float, score: float, rate: float, elapsed: float) -> None:
        """One step more: its loss, its PSNR-µ in dB, the learning rate, seconds in all."""
        self.running = (
            score if math.isnan(self.running) else (_KEEP * self.running + (1 - _KEEP) * score)
        )
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=step, loss=loss, psnr=self.running)
        if step % _EVERY:
            return
        if self.board:
            for name, value in (("loss", loss), ("psnr_mu", self.running), ("rate", rate)):
                self.board.add_scalar(name, value, step)
        if self.bar is None:
            self.log(self._line(step, loss, rate, elapsed))

    def held(self, step: int, score: float) -> None:
        """PSNR-µ of the averaged weights on the fixed patches."""
        self.log(f"step {step}: fixed patches PSNR-µ {score:.2f} dB")
        if self.board:
            self.board.add_scalar("psnr_mu_fixed_patches", score, step)

    def _line(self, step: int, loss: float, rate: float, elapsed: float) -> str:
        left = (
            "" if self.steps is None else f", {(self.steps - step) * elapsed / step / 60:.1f} left"
        )
        return (
            f"step {step:6d}  {elapsed / 60:5.1f} min{left}  loss {loss:.4f}  "
            f"PSNR-µ {self.running:.2f} dB  lr {rate:.1e}"
        )


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("step {task.completed}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.4f}  PSNR-µ {task.fields[psnr]:.2f} dB"),
        console=console,
    )


def _board(run: Path, done: int) -> Any:
    """TensorBoard's writer, None where it is not installed: the lines say the same."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=done)


def _nowhere(line: str) -> None:
    pass


def line_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
