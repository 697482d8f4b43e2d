"""The page is one file that loads nothing, says what failed, and takes no markup from strings."""

import base64
from collections import Counter
from dataclasses import fields, replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from pockethdr.brackets.bracket import Bracket, Frame
from pockethdr.export.manifest import Artifact, Manifest
from pockethdr.report.bars import Bar, bars
from pockethdr.report.chart import Point, scatter
from pockethdr.report.crops import SIDE, Crop, pictures, worst_crop
from pockethdr.report.overview import overview
from pockethdr.report.report import HEADERS, against_reference, html, verdict
from pockethdr.report.row import Row
from pockethdr.report.thresholds import Thresholds
from pockethdr.report.validate import Evaluation
from pockethdr.runtime.image import upright

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Every tag with its attributes, and whether tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def a_row(**changes: object) -> Row:
    values: dict[str, object] = dict.fromkeys(f.name for f in fields(Row))
    values |= {"model": "net", "domain": "raw", "target": "onnx", "precision": "int8"}
    values |= {"executed": True, "reason": "", "brackets": ("one",), "passed": True, "threads": 2}
    values |= {"psnr_mu_vs_reference": 45.0, "latency_ms": {"p50": 3.0, "p90": 4.0, "p99": 5.0}}
    return Row(**{**values, **changes})  # type: ignore[arg-type]


ROWS = (
    a_row(),
    a_row(target="tflite", psnr_mu_vs_reference=38.25, passed=False, undelegated_ops={"PAD": 2}),
    a_row(target="tflite", precision="fp32", psnr_mu_vs_reference=200.0),
    a_row(
        target="tensorrt",
        precision="fp16",
        executed=False,
        passed=None,
        psnr_mu_vs_reference=None,
        latency_ms=None,
        reason="no GPU answers; pip install 'pockethdr[tensorrt]'",
    ),
)


@pytest.fixture
def bracket() -> Bracket:
    return Bracket("one", "raw", _frames((240, 280)), (1.0, 2.0, 4.0))


def _frames(size: tuple[int, int]) -> tuple[Frame, Frame, Frame]:
    short, mid, long = (Frame(None, np.full(size, v, np.float32)) for v in (0.1, 0.2, 0.4))
    return short, mid, long


def evaluation(**changes: object) -> Evaluation:
    manifest = Manifest(
        model="<b>net</b>",
        spec="net",
        domain="raw",
        size=(64, 64),
        halo=None,
        multiple=1,
        channels=8,
        output_channels=4,
        weights=None,
        graph_sha256="ab" * 32,
        calibration=None,
        artifacts=(Artifact("onnx", "int8", "net.onnx", "cd" * 32, 10),),
        recipe={"name": "hdr", "float_nodes": []},
        rewrites=(
            {
                "rewrite": "lowrank",
                "place": "conv2d_3",
                "module": "encoder",
                "source": "net.py:12",
                "max_relative_error": 3e-16,
                "detail": "two convolutions",
            },
        ),
        refusals=({"place": "conv_9", "op": "aten.conv2d", "source": "a.py:1", "reason": "why"},),
        versions={"torch": "2"},
        command="pockethdr export net",
    )
    host = {"cpu": "a CPU", "cores": 2}
    made = Evaluation(
        manifest, ROWS, (), (), (), (), (), Thresholds(), host, "pockethdr report out"
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def _decoded(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


def _outlined(scene: Bracket, image: np.ndarray, crop: Crop) -> np.ndarray:
    """Where the outline of `crop` changes the overview."""
    plain, marked = (_decoded(overview(scene, image, c).fused).astype(int) for c in ([], [crop]))
    return np.abs(marked - plain).max(2) > 60


def test_page_is_whole_and_loads_nothing(bracket: Bracket) -> None:
    reference = np.random.default_rng(0).random((4, 120, 140), dtype=np.float32)
    crop = worst_crop(reference * 0.9, reference, bracket, "onnx", "int8")
    seen = overview(bracket, reference, [crop])
    text = html(evaluation(crops=(crop,), overviews=(seen,)))
    page = Page(text)
    assert page.tags["html"] == page.tags["body"] == page.tags["svg"] == 1
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert page.tags["img"] == 5
    kinds = Counter(load.partition(",")[0] for load in page.loads)
    assert kinds == {"data:image/png;base64": 3, "data:image/jpeg;base64": 2}
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_pictures_lie_as_the_scene_is_seen(bracket: Bracket) -> None:
    lying = replace(bracket, orientation=6)
    image = np.full((4, 160, 240), 0.2, np.float32)
    image[:, :, 120:] = 0.1
    (shown,), (turned,) = pictures([image], bracket), pictures([image], lying)
    np.testing.assert_array_equal(turned, upright(shown, 6))
    crop = replace(worst_crop(image * 0.9, image, lying, "onnx", "int8"), top=3, left=5)
    first, second = (_outlined(each, image, crop) for each in (bracket, lying))
    assert 100 < first.sum() < 2000
    other = upright(first[..., None], 6)[..., 0] != second
    assert other.sum() < 0.05 * first.sum()  # but for JPEG


def test_what_columns_say_does_not_need_a_pointer() -> None:
    """Titles show to those who hover; the words behind a summary to everybody."""
    text = html(evaluation())
    words = " ".join(Page(text).words)
    assert all(name in words and hint in words for name, hint in HEADERS)
    assert "<th>" not in text
    assert text.count("<th ") == text.count('<th scope="')


HOSTILE = 'a "><script>alert(1)</script>'


@pytest.mark.parametrize(
    "picture",
    [
        scatter([Point("x", 1.0, 40.0, HOSTILE)], vertical=HOSTILE, gates={}),
        bars([Bar("n", "o", 1.0, HOSTILE, "x")], title=HOSTILE, note="", unit="dB", most=2),
    ],
)
def test_attributes_of_pictures_hold_no_markup(picture: str) -> None:
    assert "<script" not in picture
    root = ElementTree.fromstring(picture)
    assert HOSTILE in str(root.get("aria-label"))
    assert HOSTILE in {element.get("class") for element in root.iter()}


def test_page_says_what_was_found() -> None:
    words = " ".join(Page(html(evaluation())).words)
    for expected in (
        "1 of 3 artifacts fails",
        "38.25",
        "identical",
        "no GPU answers; pip install 'pockethdr[tensorrt]'",
        "not delegated: PAD ×2",
        "3.0e-16",
        "conv_9",
        "pockethdr export net",
        "pockethdr report out",
        "cd" * 32,
        "<b>net</b>",  # as text: a user's string is never markup
    ):
        assert expected in words


def test_page_of_nothing_that_ran_is_whole() -> None:
    text = html(evaluation(rows=ROWS[-1:]))
    assert "No artifact could run on this host" in text
    assert Page(text).tags["svg"] == 0


def test_page_is_the_same_twice() -> None:
    assert html(evaluation()) == html(evaluation())


def test_verdicts() -> None:
    bounds = Thresholds(int8=40)
    passed, failed, identical, idle = ROWS
    assert verdict([passed, identical], bounds) == "All 2 artifacts that ran here pass."
    assert verdict([passed, idle], bounds).startswith("The one artifact that ran here passes. 1 co")
    said = verdict(ROWS, bounds).replace("\u00a0", " ")
    assert said.startswith("1 of 3 artifacts fails: tflite int8 at 38.2 dB where 40 dB are needed")
    crashed = replace(failed, psnr_mu_vs_reference=None)
    assert "tflite int8 gave no result" in verdict([crashed], bounds)
    on_arm = replace(passed, passed=False)
    said = f"fails: {on_arm.name} disagrees with this host on emulated ARM."
    assert verdict([on_arm], bounds).endswith(said)


def test_chart_places_rows_by_their_figures() -> None:
    rows = [
        a_row(target="onnx", psnr_mu_vs_reference=45.0, latency_ms={"p50": 1.0}),
        a_row(target="tflite", psnr_mu_vs_reference=55.0, latency_ms={"p50": 10.0}, passed=False),
        a_row(target="coreml", latency_ms=None),
    ]
    svg = ElementTree.fromstring(against_reference(rows, Thresholds()))
    first, second = svg.findall("circle")
    assert float(first.get("cx", 0)) < float(second.get("cx", 0))
    assert float(first.get("cy", 0)) > float(second.get("cy", 0))
    assert (first.get("class"), second.get("class")) == ("int8", "int8 failed")
    texts = [t.text for t in svg.findall("text")]
    assert {"onnx int8", "tflite int8", "int8 must reach 35 dB"} <= set(texts)
    assert "coreml int8" not in texts


def test_every_gate_has_its_label() -> None:
    bounds = Thresholds()
    rows = tuple(a_row(precision=name) for name in bounds.by_precision())
    svg = ElementTree.fromstring(against_reference(rows, bounds))
    lines = [float(each.get("y1", 0)) for each in svg.findall("line[@class='gate']")]
    labels = svg.findall("text[@class='gate-name']")
    named = [name for each in labels for name in str(each.text).split(" must")[0].split(", ")]
    assert [float(each.get("y", 0)) + 5 for each in labels] == pytest.approx(lines, abs=0.11)
    assert sorted(named) == sorted(bounds.by_precision())
    assert "dynint8 44 dB. Against ground truth" in _text_of(html(evaluation(rows=rows)))


def _text_of(page: str) -> str:
    return " ".join(" ".join(Page(page).words).replace("\u00a0", " ").split())


def test_chart_labels_do_not_lie_on_each_other() -> None:
    names = ("onnx", "tflite", "coreml", "tensorrt")
    rows = [a_row(target=name, latency_ms={"p50": 2.0}) for name in names]
    svg = ElementTree.fromstring(against_reference(rows, Thresholds()))
    placed = [
        (float(t.get("x", 0)), float(t.get("y", 0)))
        for t in svg.findall("text")
        if t.get("class") == "name"
    ]
    assert len(placed) == 4
    for i, (x, y) in enumerate(placed):
        assert all(abs(y - v) >= 15 or abs(x - u) >= 60 for u, v in placed[:i])


def test_crop_lies_where_the_error_is_and_states_its_gain(bracket: Bracket) -> None:
    reference = np.full((4, 120, 140), 0.2, np.float32)
    artifact = reference.copy()
    artifact[2, 100:110, 20:30] = 0.19
    crop = worst_crop(artifact, reference, bracket, "onnx", "int8")
    assert crop.top == 120 - SIDE
    assert crop.left == 0
    largest = (np.log1p(5000 * 0.2) - np.log1p(5000 * 0.19)) / np.log1p(5000)
    assert crop.gain * largest <= 1 < 2.5 * crop.gain * largest
    assert crop.artifact != crop.reference
    same = worst_crop(reference, reference, bracket, "onnx", "int8")
    assert same.gain == 1
    assert same.artifact == same.reference


@pytest.mark.parametrize("flips", [(False, False), (True, False), (True, True)])
def test_overview_outlines_the_crop_where_it_lies(
    bracket: Bracket, flips: tuple[bool, bool]
) -> None:
    """One row and one column from the corner that the sensor begins in."""
    reference = np.full((4, 240, 360), 0.2, np.float32)
    artifact = reference.copy()
    artifact[2, 30:50, 40:60] = 0.1
    bracket = replace(bracket, flips=flips, frames=_frames((480, 720)))
    crop = worst_crop(artifact, reference, bracket, "onnx", "int8")
    made = overview(bracket, reference, [crop])
    fused, plain = _pixels(made.fused), _pixels(overview(bracket, reference, []).fused)
    assert fused.shape == (240, 360, 3)
    rows, columns = np.nonzero(np.abs(fused.astype(int) - plain).max(axis=2) > 100)
    found = rows.min(), columns.min(), rows.max(), columns.max()
    top, left = (
        length - start - SIDE - 1 if flipped else start
        for length, start, flipped in zip((240, 360), (crop.top, crop.left), flips, strict=True)
    )
    np.testing.assert_allclose(found, (top, left, top + SIDE, left + SIDE), atol=2)


def _pixels(uri: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def test_crop_of_an_image_smaller_than_itself(bracket: Bracket) -> None:
    reference = np.random.default_rng(0).random((4, 20, 30), dtype=np.float32)
    crop = worst_crop(reference * 0.5, reference, bracket, "onnx", "int8")
    assert (crop.top, crop.left) == (0, 0)
