"""The CLI: every user error is one message and exit status 2, whatever the room it comes from."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from rich.table import Table

from pockethdr.cli import main
from pockethdr.commands import Name, Names, console
from pockethdr.commands.console import print_table, steps
from pockethdr.errors import PocketError
from pockethdr.export.targets import TARGETS


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`failing(error)`: `pockethdr models` raises `error`."""

    def install(error: BaseException) -> Result:
        def callback(**_: object) -> None:
            raise error

        monkeypatch.setattr(main.commands["models"], "callback", callback)
        return run("models")

    return install


@pytest.mark.parametrize("name", [None, *main.commands])
def test_help_is_complete(name: str | None) -> None:
    result = run(*([name] if name else []), "--help")
    assert result.exit_code == 0
    assert "pockethdr" in result.output
    assert name is None or "Example" in result.output


@pytest.mark.parametrize("name", main.commands)
def test_every_option_says_what_it_does(name: str) -> None:
    options = [p for p in main.commands[name].params if isinstance(p, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pockethdr.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'cv2', 'rich') if m in sys.modules])"
    )
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        times.append(time.perf_counter() - begin)
        assert done.stdout.splitlines()[-1] == "[]"
    assert min(times) < 0.6  # twice what is asked for: the machine may be busy


def test_unknown_target_lists_the_known(tmp_path: Path) -> None:
    arguments = ("--brackets", tmp_path, "--out", tmp_path / "out", "--targets", "onnx,tpu")
    refused(run("export", "dsan-m32", *arguments), "tpu", *TARGETS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", ["256", "0x8", "axb", "8x8x8"])
def test_a_size_that_is_none_is_refused(tmp_path: Path, size: str) -> None:
    arguments = ("--brackets", tmp_path, "--out", tmp_path / "out", "--size", size)
    refused(run("export", "dsan-m32", *arguments), "HEIGHTxWIDTH")


def test_unknown_precision_model_recipe(tmp_path: Path) -> None:
    base = ("--brackets", tmp_path, "--out", tmp_path / "out")
    refused(run("export", "dsan-m32", *base, "--precisions", "int4"), "int4", "fp16")
    refused(run("export", "dsan-m33", *base), "dsan-m33", "dsan-m32")
    refused(run("export", "dsan-m32", *base, "--recipe", "magic"), "magic", "hdr")
    refused(run("export", "dsan-m32", *base, "--recipe", tmp_path / "no.json"), "no.json")
    assert not (tmp_path / "out").exists()


def test_missing_places_are_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    base = ("--domain", "raw", "--out", tmp_path / "out")
    refused(run("export", "dsan-m32-global", "--brackets", gone, *base), str(gone))
    refused(run("validate", gone, "--brackets", tmp_path), str(gone))
    refused(run("report", gone, "--brackets", tmp_path), str(gone))
    refused(run("fuse", gone / "a.tflite", tmp_path, "--out", tmp_path / "a.exr"), "a.tflite")
    refused(run("simulate", gone / "a.exr", "--out", tmp_path / "b"), "a.exr")


def test_fuse_refuses_an_unknown_suffix_before_it_works(tmp_path: Path) -> None:
    refused(run("fuse", "a.tflite", tmp_path, "--out", tmp_path / "a.gif"), ".gif", ".exr")


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    fused = run("fuse", "a.tflite", tmp_path, "--out", tmp_path / "a.exr", "--format", "jpg")
    refused(fused, "--format is for --batch; a.exr")
    trained = run("train", "dsan-m16", "--sources", tmp_path, "--channel-order", "RGGB")
    refused(trained, "--channel-order is of Mobile-HDR's archives, not of simulated data")


def test_choices_are_known_before_the_work(tmp_path: Path) -> None:
    result = run("fuse", "a.tflite", "--batch", str(tmp_path), "--out", "o", "--format", "png")
    assert result.exit_code == 2
    assert "unknown format 'png'; known: exr, hdr, tif, tiff, jpg, jpeg, avif" in result.output
    result = run("simulate", "a.exr", "--out", str(tmp_path / "o"), "--phone", "brick")
    assert result.exit_code == 2
    assert "unknown phone 'brick'; known: " in result.output


def test_names_are_taken_once_and_suffixes_with_their_dot() -> None:
    assert Names("target", lambda: ["onnx", "tflite"]).convert("onnx, onnx,tflite", None, None) == (
        "onnx",
        "tflite",
    )
    assert Name("format", lambda: ["exr"]).convert(".exr", None, None) == "exr"


@pytest.mark.parametrize("command", ["validate", "report"])
@pytest.mark.parametrize(
    ("gates", "said"),
    [("int4=3", "unknown gate 'int4'; known: fp32"), ("int8=much", "'much'"), ("loss=-1", "-1")],
)
def test_gates_that_are_none_are_refused(command: str, gates: str, said: str) -> None:
    result = run(command, "o", "--brackets", "b", "--gates", gates)
    assert result.exit_code == 2
    assert said in result.output


def test_simulate_writes_a_bracket_that_reads_back(tmp_path: Path) -> None:
    import numpy as np

    from pockethdr.brackets.exr import write_exr
    from pockethdr.brackets.read import read_bracket

    scene = np.random.default_rng(0).random((96, 128, 3), np.float32) ** 4
    write_exr(tmp_path / "scene.exr", scene)
    out = tmp_path / "bracket"
    result = run("simulate", tmp_path / "scene.exr", "--out", out, "--ratio", 8)
    assert result.exit_code == 0, result.output
    bracket = read_bracket(out)
    assert bracket.ratios == pytest.approx((1, 8, 64))
    assert bracket.ground_truth is not None
    before = sorted(out.iterdir())
    refused(run("simulate", tmp_path / "scene.exr", "--out", out), str(out))
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize(
    "option",
    [
        ("--iso", "nan"),
        ("--iso", -5),
        ("--ratio", 0),
        ("--motion", 1e9),
        ("--shake", -3),
        ("--seed", -1),
    ],
)
def test_simulate_refuses_numbers_that_make_no_bracket(
    tmp_path: Path, option: tuple[str, object]
) -> None:
    out = tmp_path / "bracket"
    refused(run("simulate", tmp_path / "scene.exr", "--out", out, *option), str(option[1])[:2])
    assert not out.exists()


@pytest.mark.parametrize(
    "command",
    [
        ("calibrate", "dsan-m16", "--brackets", "nowhere"),
        ("finetune", "dsan-m16", "--sources", "nowhere"),
    ],
)
def test_an_existing_file_is_refused_before_the_work(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "dear").write_text("dear")
    begin = time.perf_counter()
    refused(run(*command, "--out", tmp_path / "dear"), "dear exists", "--overwrite")
    assert (tmp_path / "dear").read_text() == "dear"
    assert time.perf_counter() - begin < 20  # no tracing, no training


def test_the_methods_offered_are_those_that_exist() -> None:
    from pockethdr.calibration import ranges
    from pockethdr.export import recipe

    assert tuple(ranges.METHODS) == recipe.METHODS


def test_doctor_has_a_line_for_every_target_and_precision() -> None:
    result = run("doctor", "--json")
    assert result.exit_code == 0
    found = json.loads(result.output)
    lines = {(line["target"], line["precision"]) for line in found["lines"]}
    assert lines == {(t.name, p) for t in TARGETS.values() for p in t.precisions}
    assert found["machine"]["cores"] >= 1
    assert all(line[what]["detail"] for line in found["lines"] for what in ("build", "run"))
    assert all(name in run("doctor").output for name in TARGETS)


def test_doctor_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import pockethdr.doctor

    monkeypatch.setattr(pockethdr.doctor, "version_of", lambda package: None)
    monkeypatch.setattr(pockethdr.doctor, "find_spec", lambda name: None)
    lines = pockethdr.doctor.diagnose().lines
    assert not any(line.build.works or line.run.works for line in lines)
    assert all("pip install" in line.build.detail for line in lines)


def test_the_report_says_which_runtimes_its_figures_are_of() -> None:
    """By the names that pip knows: what is not found would not be recorded."""
    import tomllib

    from pockethdr.export.provenance import TOOLS
    from pockethdr.report.host import PACKAGES, RUNTIMES, host, version_of

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    wanted = " ".join(each for extra in project["optional-dependencies"].values() for each in extra)
    assert all(f"{name}==" in wanted for name in RUNTIMES if name != "tensorrt")
    assert {name for name in RUNTIMES if version_of(name)} == set(RUNTIMES) & set(host())
    assert set(PACKAGES) - {"rawpy"} <= set(TOOLS)


def test_models_lists_the_named_networks() -> None:
    result = run("models")
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    from pockethdr.models import zoo

    assert all(row.name in lines for row in zoo.rows())
    assert lines["dsan-m32"].split()[1:5] == ["164,944", "35.9", "26", "2"]
    assert "raw*, rgb*" in lines["dsan-m32"]
    assert lines["nhdrrnet-mobile"].split()[3] == "all"


def test_a_narrow_terminal_shows_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    assert "\n dsan-m32 " in run("models").output


def test_a_log_shows_whole_rows(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", box=None)
    table.add_row("x" * 150)
    print_table(table)
    assert "x" * 150 in capsys.readouterr().out


def test_models_counts_for_the_size_that_is_asked_for() -> None:
    output = run("models", "--size", "760x1024").output
    lines = {line.split()[0]: line.split() for line in output.splitlines() if line.strip()}
    assert lines["dsan-m32"][2] == "35.6"
    assert lines["nhdrrnet-paper"][2] == "–"  # 760 is no multiple of 16


def test_published_weights_are_imported_or_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pkl"
    wrong.write_bytes(b"no checkpoint")
    out = str(tmp_path / "w.safetensors")
    refused(run("import-weights", str(wrong), "--out", out), "wrong.pkl", "expected:")


def test_pocket_errors_have_no_traceback(failing: Any) -> None:
    refused(failing(PocketError("w", expected="e", fix="f")), "error: w", "expected: e", "fix: f")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.EACCES, errno.EROFS])
def test_the_disk_s_faults_are_messages(failing: Any, code: int) -> None:
    refused(failing(OSError(code, os.strerror(code), "out/x")), "out/x", "fix:")


def test_bugs_keep_their_traceback(failing: Any) -> None:
    assert isinstance(failing(ValueError("a bug")).exception, ValueError)
    assert isinstance(failing(OSError(errno.EIO, "a bug")).exception, OSError)


def test_interrupt_is_130(failing: Any) -> None:
    assert failing(KeyboardInterrupt()).exit_code == 130


def test_a_failed_gate_is_1(failing: Any) -> None:
    assert failing(click.exceptions.Exit(1)).exit_code == 1


def test_exit_code_is_that_of_the_rows() -> None:
    from types import SimpleNamespace as Row

    from pockethdr.commands.judge import exit_code

    passed, skipped, failed = (Row(passed=value) for value in (True, None, False))
    assert exit_code([passed, skipped]) == 0  # type: ignore[list-item]
    assert exit_code([passed, failed]) == 1  # type: ignore[list-item]


def test_no_traceback_from_a_real_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pockethdr.cli", "validate", str(tmp_path), "--brackets", "x"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "manifest" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_locale_without_our_signs_is_no_traceback() -> None:
    ascii_only = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    asked = [sys.executable, "-m", "pockethdr.cli", "models"]
    done = subprocess.run(asked, capture_output=True, text=True, env=os.environ | ascii_only)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.isascii()


def test_a_log_hears_of_a_long_step_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 4.0, 11.0, 11.0, 12.0, 13.0, 13.0])
    monkeypatch.setattr(console.time, "perf_counter", lambda: next(clock))
    with steps("validating") as step:
        for tile in (1, 2, 3):
            step("", tile / 4, 5)  # after 4, 11 and 12 seconds
        step("reference on garden", 1, 5)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "[  11.0 s] validating: 0.5 of 5 steps",
        "[  13.0 s] validating: reference on garden (1/5)",
    ]
