"""Phones over adb: against a stand-in that replays recorded exchanges, and the real program."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from pockethdr.cli import main
from pockethdr.commands.bench import _tile
from pockethdr.errors import PocketError, Unavailable
from pockethdr.runtime.artifact import Deployed
from pockethdr.runtime.litert import interpreter_of
from pockethdr.runtime.phone import bench as phone_bench
from pockethdr.runtime.phone.adb import Adb
from pockethdr.runtime.phone.bench import bench, parsed
from pockethdr.runtime.phone.rows import DeviceRow
from pockethdr.runtime.runner import open_runner

_SHAPE = (1, 6, 8, 8)
_TIMINGS = """INFO: Initialized session in 12.5ms.
INFO: count=5 first=9000 curr=8000 min=7900 max=9000 avg=8200 std=300 p5=7900 median=8000 p95=9000
INFO: Timings (microseconds): count=50 first=8100 curr=8000 min=7800 max=8800 avg=8050 std=150 \
p5=7850 median=8020 p95=8400
INFO: Overall peak memory footprint (MB) via periodic monitoring: 31.5
INFO: Peak memory footprint (MB): init=20.1 overall=31.5
"""
_FAKE = """#!{python}
import json, sys
recorded = json.load(open({record!r}))
arguments = sys.argv[1:]
if arguments == ["devices"]:
    print(recorded["devices"]); raise SystemExit
assert arguments[:2] == ["-s", recorded["serial"]], arguments
verb, rest = arguments[2], arguments[3:]
open({log!r}, "a").write(" ".join(arguments[2:]) + "\\n")
if verb == "pull":
    if recorded["output"] is None: sys.exit("remote object does not exist")
    open(rest[1], "wb").write(bytes(recorded["output"])); raise SystemExit
if verb == "shell":
    for part, reply in recorded["shell"].items():
        if part in rest[0]:
            print(reply["out"]); raise SystemExit(reply.get("code", 0))
"""


def _fake(folder: Path, monkeypatch: pytest.MonkeyPatch, **recorded: Any) -> Path:
    """Put an adb in front of the path that answers as recorded; returns its log."""
    record, log, program = folder / "record.json", folder / "log.txt", folder / "adb"
    defaults: dict[str, Any] = {
        "devices": "List of devices attached\nR58M1\tdevice\n",
        "serial": "R58M1",
        "output": None,
        "shell": {},
    }
    record.write_text(json.dumps(defaults | recorded))
    text = _FAKE.format(python=sys.executable, record=str(record), log=str(log))
    program.write_text(text)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return log


@pytest.mark.parametrize(
    ("listed", "serial", "words"),
    [
        ("", "", "no Android device is connected"),
        ("A\tunauthorized\n", "", "accept this computer's key"),
        ("A\tdevice\nB\tdevice\n", "", "2 devices are connected: A, B"),
        ("A\tdevice\n", "C", "no device 'C'"),
        ("A\toffline\n", "", "device A is offline"),
    ],
)
def test_what_is_wrong_with_the_phone_is_said(
    listed: str, serial: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(tmp_path, monkeypatch, devices=f"List of devices attached\n{listed}")

    with pytest.raises(PocketError, match=words):
        Adb(serial)


def test_one_of_two_phones_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path, monkeypatch, devices="List of devices attached\nA\tdevice\nB\tdevice\n")

    assert Adb("B").serial == "B"


def test_the_real_adb_says_that_no_phone_is_there() -> None:
    if not shutil.which("adb"):
        pytest.skip("adb is not installed: apt-get install adb")

    with pytest.raises(Unavailable, match="no Android device is connected"):
        Adb()


def _run(folder: Path, monkeypatch: pytest.MonkeyPatch, **recorded: Any) -> DeviceRow:
    """The CPU row of a made-up artifact on the recorded phone."""
    artifact, tool = folder / "m_rgb_int8.tflite", folder / "benchmark_model"
    artifact.write_bytes(b"artifact")
    tool.write_bytes(b"tool")
    runner = SimpleNamespace(run=lambda frames: _output(), close=lambda: None)
    monkeypatch.setattr(phone_bench, "open_runner", lambda *_, **__: runner)
    monkeypatch.setattr(phone_bench, "coded_inputs", lambda _, frames: frames)
    monkeypatch.setattr(phone_bench, "decoded_output", lambda _, data: np.frombuffer(data, "<f4"))
    frames = [np.zeros(_SHAPE, np.float32)] * 3
    return bench(artifact, frames, Adb(), tool, accelerators=("cpu",))[0]


def _output() -> np.ndarray:
    return np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)


_PHONE = {
    "ro.product.model": {"out": "Pixel 9"},
    "ro.build.version.release": {"out": "16"},
    "ro.soc.model": {"out": "Tensor G4"},
    "thermalservice": {"out": "IsStatusOverride: false\nThermal Status: 1"},
}


def test_a_run_becomes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = _output().transpose(0, 2, 3, 1).astype("<f4").tobytes()
    shell = {**_PHONE, "--graph": {"out": _TIMINGS}}
    log = _fake(tmp_path, monkeypatch, output=list(tensor), shell=shell)

    row = _run(tmp_path, monkeypatch)

    assert (row.device, row.system, row.accelerator) == ("Pixel 9 (Tensor G4)", "Android 16", "cpu")
    assert row.latency_ms == {"p50": 8.02, "p5": 7.85, "p95": 8.4}
    assert (row.runs, row.thermal, row.peak_memory_mb) == (50, [1, 1], 31.5)
    assert (row.passed, row.psnr_vs_host) == (True, 200.0)
    said = log.read_text()
    assert "--input_layer_shape=1,8,8,6:1,8,8,6:1,8,8,6" in said
    assert said.strip().endswith("rm -rf /data/local/tmp/pockethdr")


def test_a_wrong_output_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = (1 - _output()).transpose(0, 2, 3, 1).astype("<f4").tobytes()
    shell = {**_PHONE, "--graph": {"out": _TIMINGS}}
    _fake(tmp_path, monkeypatch, output=list(tensor), shell=shell)

    assert _run(tmp_path, monkeypatch).passed is False


def test_an_output_that_is_no_image_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = np.full_like(_output(), np.nan).tobytes()
    shell = {**_PHONE, "--graph": {"out": _TIMINGS}}
    _fake(tmp_path, monkeypatch, output=list(tensor), shell=shell)

    row = _run(tmp_path, monkeypatch)

    assert (row.passed, row.psnr_vs_host) == (False, None)
    assert "cpu: returns NaN or infinity" in row.reason


def test_an_accelerator_that_fails_is_a_row_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = {"out": "ERROR: no GPU delegate", "code": 1}
    _fake(tmp_path, monkeypatch, shell={**_PHONE, "--graph": failure})

    row = _run(tmp_path, monkeypatch)

    assert (row.passed, row.latency_ms) == (None, None)
    assert "no GPU delegate" in row.reason


@pytest.mark.parametrize("told", [1.0, 0.0])
def test_a_phone_is_told_of_the_whole_image(
    seeing: Deployed, told: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A phone that runs the tile on its context agrees with the host, one without it does not."""
    photos, tool = Path(str(files("pockethdr.brackets") / "sample")), tmp_path / "benchmark_model"
    tool.write_bytes(b"tool")
    artifact = shutil.copytree(seeing.path.parent, tmp_path / "out") / seeing.path.name
    *frames, context = _tile(artifact, photos)
    with closing(open_runner(artifact, "tflite")) as runner:
        output = runner.run([*frames, context * np.float32(told)]).transpose(0, 2, 3, 1)
    output = _as_stored(artifact, output)
    shell = {**_PHONE, "--graph": {"out": _TIMINGS}}
    log = _fake(tmp_path, monkeypatch, output=list(output.tobytes()), shell=shell)

    arguments = ["--adb", "--brackets", str(photos), "--benchmark-model", str(tool)]
    done = CliRunner().invoke(main, ["bench", str(artifact), *arguments])

    assert (done.exit_code, done.output.count("200.0 dB")) == ((0, 3) if told else (1, 0))
    said = log.read_text()
    assert said.count("push") == 6
    assert "--input_layer_shape=1,64,64,8:1,64,64,8:1,64,64,8:1,64,64,8" in said
    assert ",serving_default_context:/data/local/tmp/pockethdr/context.bin" in said


def _as_stored(artifact: Path, output: np.ndarray) -> np.ndarray:
    """The codes that a phone's file holds."""
    (detail,) = interpreter_of(artifact, 1).get_output_details()
    scale, zero = detail["quantization"]
    return np.round(output / scale + zero).astype(np.int8)


def test_output_without_timings_is_refused() -> None:
    with pytest.raises(PocketError, match="printed no timings: Aborted"):
        parsed("INFO: Loaded model\nAborted\n")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "--adb and --brackets and --benchmark-model not given"),
        (["--adb", "1", "--brackets", "photos"], "--benchmark-model not given"),
        (["--import", "absent.json"], "absent.json: no such file"),
    ],
)
def test_what_bench_lacks_is_named(given: list[str], says: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", str(tmp_path / "net.tflite"), *given])
    assert result.exit_code == 2
    assert says in result.output
