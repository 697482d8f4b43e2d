"""What devices measured, in both reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from test_report_page import Page, evaluation

from pockethdr.errors import PocketError
from pockethdr.report.devices import device_verdict, of_export
from pockethdr.report.report import html
from pockethdr.runtime.phone.rows import DEVICES_NAME, DeviceRow, read_rows

PHONE = DeviceRow(
    device="Pixel 9 (Tensor G4)",
    system="Android 16",
    runtime="LiteRT benchmark_model",
    accelerator="cpu",
    artifact="net.onnx",
    sha256="cd" * 32,
    latency_ms={"p50": 8.02, "p95": 8.4},
    runs=50,
    thermal=[0, 1],
    peak_memory_mb=31.5,
    psnr_vs_host=71.25,
    passed=True,
)
FAILED = replace(PHONE, accelerator="gpu", psnr_vs_host=31.5, passed=False)
REFUSED = replace(
    PHONE,
    accelerator="npu",
    latency_ms=None,
    runs=None,
    psnr_vs_host=None,
    passed=None,
    reason="npu: no such driver",
)


def _words(*rows: DeviceRow) -> str:
    return " ".join(Page(html(evaluation(devices=rows))).words)


def test_page_shows_what_a_phone_measured() -> None:
    words = _words(PHONE, REFUSED)

    for expected in (
        "On devices",
        "onnx int8",
        "Pixel 9 (Tensor G4), Android 16",
        "8.02",
        "71.25",
        "LiteRT benchmark_model · 50 runs · p95 8.40 ms · thermal status 0 → 1",
        "not judged",
        "npu: no such driver",
        "every output that was compared agrees",
    ):
        assert expected in words


def test_a_wrong_output_on_a_device_is_in_the_headline() -> None:
    words = _words(PHONE, FAILED)

    assert "On devices, 1 of 2 outputs disagree with the host: net.onnx on the gpu of" in words
    page = html(evaluation(rows=(), devices=(FAILED,)))
    assert '<h1 class="fail">' in page


def test_without_devices_the_page_says_nothing_of_them() -> None:
    assert "On devices" not in _words()
    assert device_verdict([REFUSED]) == ""


def test_figures_of_an_artifact_that_was_replaced_are_left_out() -> None:
    old = replace(FAILED, sha256="ef" * 32)
    words = _words(PHONE, old)

    assert of_export([PHONE, old], evaluation().manifest) == [PHONE]
    assert "Left out: 1 row of artifacts that this export no longer holds" in words
    assert "gpu" not in words


def test_report_json_holds_the_rows() -> None:
    data = json.loads(evaluation(devices=(PHONE,)).to_json())

    assert [DeviceRow(**row) for row in data["devices"]] == [PHONE]


def test_a_damaged_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / DEVICES_NAME).write_text("{")

    with pytest.raises(PocketError, match="is not JSON"):
        read_rows(tmp_path)
