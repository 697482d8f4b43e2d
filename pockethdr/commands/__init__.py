"""The commands of the CLI, one file per step of the work, and the options they share.

Nothing heavy is imported before a command runs: `--help` must answer at once, and `fuse` must work
where no PyTorch is installed.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from pockethdr.errors import ArtifactError

ARGUMENTS = "arguments"
DOMAINS = ("raw", "rgb")
CHANNEL_ORDERS = ("RGGB", "BGGR")


class Size(click.ParamType):
    """`HxW` → (H, W)."""

    name = "HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sides = str(value).lower().replace("×", "x").split("x")
        if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
            self.fail(f"{value!r}; expected HEIGHTxWIDTH, for instance 256x256", param, ctx)
        return int(sides[0]), int(sides[1])


class Number(click.FloatRange):
    """A range of numbers without NaN, which is below and above nothing."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class Name(click.ParamType):
    """One of a table that is read only when the option is; a suffix may have its dot."""

    name = "NAME"

    def __init__(self, kind: str, known: Callable[[], Iterable[str]]) -> None:
        self.kind, self.known = kind, known

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        known, name = tuple(self.known()), str(value).strip().lstrip(".")
        if name not in known:
            self.fail(f"unknown {self.kind} {name!r}; known: {', '.join(known)}", param, ctx)
        return name


class Names(Name):
    """`a,b` → ("a", "b")."""

    name = "NAME[,NAME…]"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        names = dict.fromkeys(n.strip() for n in str(value).split(",") if n.strip())
        if not names:
            self.fail(f"no {self.kind} named; known: {', '.join(self.known())}", param, ctx)
        return tuple(super(Names, self).convert(name, param, ctx) for name in names)


def network_names() -> Iterable[str]:
    from pockethdr.models.zoo import names

    return names()


def target_names() -> Iterable[str]:
    from pockethdr.export.targets import TARGETS

    return TARGETS


def precision_names() -> Iterable[str]:
    from pockethdr.export.targets import PRECISIONS

    return PRECISIONS


def domain_option(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "What the frames hold: packed Bayer mosaics, or RGB images."
    return click.option(
        "--domain", type=click.Choice(DOMAINS), default="raw", show_default=True, help=text
    )(command)


def brackets_option(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "A bracket, or a folder of bracket folders."
    return click.option("--brackets", type=click.Path(path_type=Path), required=True, help=text)(
        command
    )


def model_option(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "The network of OUT, where it is your own and was exported elsewhere: lets its code run."
    return click.option("--model", metavar="FILE.py:FACTORY", help=text)(command)


def trust_named(model: str | None, out: Path) -> None:
    """Let the network that OUT was exported from run, which the user names too.

    Raises:
        ArtifactError: OUT is of another network.
    """
    from pockethdr.export.manifest import read_manifest
    from pockethdr.models.trust import trust

    if model is None:
        return
    spec = read_manifest(out).spec
    if model != spec:
        raise ArtifactError(
            f"--model {model}: {out} was exported from {spec}",
            expected="the network of the export, as its manifest names it",
        )
    trust(model)


def channel_order_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--channel-order",
        type=click.Choice(CHANNEL_ORDERS),
        help="Of Mobile-HDR's channels.  [default: as metadata.json beside them says, or RGGB]",
    )(command)


def threads_option(
    *, default: int, help: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Above a thousand threads runtimes die without a word."""
    return click.option(
        "--threads", type=click.IntRange(1, 1024), default=default, show_default=True, help=help
    )


def seed_option(command: Callable[..., Any]) -> Callable[..., Any]:
    text = "The same seed gives the same result."
    return click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help=text)(
        command
    )


def ray_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = f"{what} on a Ray cluster: `local` for the cores of this machine. Same result."
    return click.option("--ray", metavar="local|ADDRESS", help=text)


def command_line(context: click.Context) -> str:
    """The command as typed, for the manifest."""
    arguments = (context.find_object(dict) or {}).get(ARGUMENTS, [])
    return shlex.join(["pockethdr", *arguments])
