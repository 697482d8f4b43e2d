"""A folder from elsewhere runs no code; what the user exported or named runs as before."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fuse_toy import exported
from judged_toy import NETWORK

from pockethdr.cli import main
from pockethdr.errors import ArtifactError
from pockethdr.export.pipeline import export_model
from pockethdr.export.recipe import named_recipe
from pockethdr.models import trust as trusting
from pockethdr.models.load import load_model
from pockethdr.models.trust import check_trusted, trust

SAMPLE = str(files("pockethdr.brackets") / "sample")
HOSTILE = """
from pathlib import Path
Path("it-ran").touch()
def build():
    raise ValueError("that was all")
"""
COMMANDS = [["validate"], ["report"], ["debug", "--target", "onnx", "--precision", "fp32"]]


@pytest.fixture(autouse=True)
def _of_a_user_who_has_named_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(trusting, "_named", set())
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    monkeypatch.chdir(tmp_path)


def _downloaded(spec: str) -> Path:
    """A folder whose manifest names `spec`; code lies in it and beside it."""
    out = exported(Path("pack"), "raw", (64, 64)).parent
    for place in (out / "evil.py", Path("beside.py")):
        place.write_text(HOSTILE)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "spec": spec}))
    return out


def _run(command: list[str], out: Path, *more: str) -> Result:
    return CliRunner().invoke(main, [*command, str(out), "--brackets", SAMPLE, *more])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("spec", ["pack/evil.py:build", "beside.py:build", "beside:build"])
def test_code_that_only_a_manifest_names_does_not_run(command: list[str], spec: str) -> None:
    out = _downloaded(spec)
    refused = _run(command, out)
    assert refused.exit_code == 2
    assert f"pack names code to be run, {spec}" in refused.output
    assert f"repeat the command with --model {spec}" in refused.output
    assert not Path("it-ran").exists()
    assert "that was all" in _run(command, out, "--model", spec).output
    assert Path("it-ran").exists()


def test_the_name_of_another_network_vouches_for_nothing() -> None:
    refused = _run(["validate"], _downloaded("pack/evil.py:build"), "--model", "my.py:build")
    assert refused.exit_code == 2
    assert "--model my.py:build: pack was exported from pack/evil.py:build" in refused.output
    assert not Path("it-ran").exists()


def test_ones_own_export_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("own.py").write_text(NETWORK)
    export_model(
        load_model("own.py:factory", domain="raw"),
        targets=("onnx",),
        precisions=("fp32",),
        bracket_folders=[Path(SAMPLE)],
        out=Path("out"),
        size=(64, 64),
        recipe=named_recipe("hdr"),
    )
    monkeypatch.setattr(trusting, "_named", set())  # as in the next process
    check_trusted("own.py:factory", Path("out"))
    check_trusted(f"{tmp_path / 'own.py'}:factory", Path("out"))
    with pytest.raises(ArtifactError, match="not exported by you"):
        check_trusted("own.py:other", Path("out"))


def test_relative_names_are_trusted_where_they_were_named(monkeypatch: pytest.MonkeyPatch) -> None:
    trust("own.py:factory")
    trust("package.module:build")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for spec in ("own.py:factory", "package.module:build"):
        with pytest.raises(ArtifactError, match="not exported by you"):
            check_trusted(spec, Path("out"))


def test_names_of_the_zoo_need_no_trust() -> None:
    check_trusted("dsan-m32", Path("out"))


def test_without_a_home_trust_lasts_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    trust("own.py:factory")
    check_trusted("own.py:factory", Path("out"))
