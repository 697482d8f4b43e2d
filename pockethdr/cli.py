"""`pockethdr`: thin commands over the rooms, and the one place where errors become exit codes.

0 done · 1 an artifact failed its gate · 2 something the user can mend · 130 interrupted
"""

from __future__ import annotations

import errno
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

import pockethdr
from pockethdr.commands import ARGUMENTS
from pockethdr.commands.bench import bench
from pockethdr.commands.debug import debug
from pockethdr.commands.demo import demo
from pockethdr.commands.doctor import doctor
from pockethdr.commands.evaluate import evaluate
from pockethdr.commands.export import calibrate, export
from pockethdr.commands.fuse import fuse
from pockethdr.commands.judge import compare, report, validate
from pockethdr.commands.models import import_weights, models
from pockethdr.commands.training import finetune, gather, simulate, train
from pockethdr.errors import PocketError

USER_ERROR, INTERRUPTED = 2, 130

# What the operating system says when the user's disk or folder is at fault, not our code.
_MENDABLE = {
    errno.ENOSPC: "free some space, then run the same command again",
    errno.EDQUOT: "free some space, then run the same command again",
    errno.EFBIG: "choose a file system, or a limit (ulimit -f), that takes larger files",
    errno.EACCES: "check the permissions, or choose another place",
    errno.EPERM: "check the permissions, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOTDIR: "a file lies where a folder is needed: choose another place",
    errno.EEXIST: "a file lies where a folder is needed: choose another place",
    errno.EISDIR: "a folder lies where a file is needed: choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class _Commands(click.Group):
    """A group that lets no user error become a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of a first day's work, not of the alphabet

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args)
        extra |= {"obj": {ARGUMENTS: arguments}, "standalone_mode": False}
        _print_what_can_be_printed()
        try:
            with warnings.catch_warnings(), _brackets_left_out_are_shown():
                warnings.showwarning = _show_warning
                code = super().main(arguments, prog_name or "pockethdr", **extra)
        except click.ClickException as error:
            error.show()
            sys.exit(USER_ERROR)
        except (click.Abort, KeyboardInterrupt):
            how = ", with --resume" if arguments[:1] in (["train"], ["finetune"]) else ""
            click.echo(f"interrupted; run the same command again to go on{how}", err=True)
            sys.exit(INTERRUPTED)
        except (PocketError, OSError) as error:
            click.echo(f"error: {_explained(error)}", err=True)
            sys.exit(USER_ERROR)
        sys.exit(code if isinstance(code, int) else 0)


def _print_what_can_be_printed() -> None:
    """A `?` for signs that the locale lacks, instead of a traceback; stderr escapes them itself."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def _brackets_left_out_are_shown() -> Iterator[None]:
    """What `find_brackets` notes goes to stderr: who is not told misses no bracket."""
    notes = logging.getLogger("pockethdr.brackets.read")
    shown = _ToStderr()
    notes.addHandler(shown)
    notes.setLevel(logging.INFO)
    try:
        yield
    finally:
        notes.removeHandler(shown)


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A line for the user, when it is ours: they cannot mend what libraries say to each other."""
    if Path(filename).is_relative_to(Path(pockethdr.__file__).parent):
        click.echo(f"warning: {message}", err=True)


def _explained(error: PocketError | OSError) -> str:
    """The message for a user; an operating-system error that is none of theirs is raised again."""
    if isinstance(error, PocketError):
        return str(error)
    if error.errno not in _MENDABLE:
        raise error
    place = f"{error.filename}: " if error.filename else ""
    return str(PocketError(f"{place}{error.strerror}", fix=_MENDABLE[error.errno]))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pockethdr.__version__, prog_name="pockethdr")
def main() -> None:
    """Take dynamic-kernel HDR networks from PyTorch to phone runtimes.

    \b
    First steps:
      pockethdr doctor
      pockethdr demo
      pockethdr export dsan-m32 --brackets DIR --out out/m32
      pockethdr validate out/m32 --brackets DIR

    Exit status: 0 done, 1 an artifact failed its gate, 2 something to mend, 130 interrupted.
    """


for _command in (
    doctor,
    models,
    import_weights,
    demo,
    calibrate,
    export,
    validate,
    report,
    compare,
    debug,
    bench,
    fuse,
    gather,
    simulate,
    train,
    finetune,
    evaluate,
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
