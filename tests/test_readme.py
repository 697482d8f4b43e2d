"""The README's commands that cost nothing are run; the others must at least parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import pockethdr
from pockethdr.cli import main

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
CHEAP = ("--help", "doctor", "models")


def commands() -> list[str]:
    blocks = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", README, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith("pockethdr ")]


def test_there_are_commands_of_both_kinds() -> None:
    assert len(commands()) > 5
    assert any(command.split()[1] in CHEAP for command in commands())


@pytest.mark.parametrize("command", commands())
def test_command(command: str) -> None:
    arguments = shlex.split(command)[1:]
    if arguments[-1] in CHEAP:
        assert CliRunner().invoke(main, arguments).exit_code == 0
    else:
        name, *rest = arguments
        main.commands[name].make_context(name, rest, parent=click.Context(main))


@pytest.mark.parametrize("block", re.findall(r"^```python\n(.*?)^```", README, re.M | re.S))
def test_python(block: str) -> None:
    """It parses, and every name of ours that it uses is there."""
    compile(block, "README.md", "exec")
    names = re.findall(r"pockethdr\.(\w+)", block)
    assert names
    assert all(hasattr(pockethdr, name) for name in names)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http|#)([^)#]+)", README))
def test_link(link: str) -> None:
    assert (Path(__file__).resolve().parents[1] / link).exists()
