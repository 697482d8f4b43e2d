"""Alignment strip by strip: what moving whole frames gives, from a few rows at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pockethdr.brackets import align
from pockethdr.brackets.bracket import Bracket, Frame, pack, unpack
from pockethdr.brackets.spool import Spool
from pockethdr.brackets.stored import stored

HEIGHT, WIDTH = 1200, 96
#: A turn of two degrees, a shift and some perspective: strips see rows far from their own.
SHAKEN = np.array([[0.999, -0.035, 8], [0.035, 0.999, -21], [2e-6, 1e-5, 1]], np.float32)
FAR_OUT = np.array([[1, 0, 0], [0, 1, 5000], [0, 0, 1]], np.float32)


@pytest.mark.parametrize("homography", [SHAKEN, np.linalg.inv(SHAKEN), FAR_OUT])
@pytest.mark.parametrize("raw", [True, False])
def test_strips_are_the_whole(homography, raw):
    random = np.random.default_rng(4)
    image = random.integers(0, 1023, (HEIGHT, WIDTH, *(() if raw else (3,)))).astype(np.uint16)
    frame = Frame(None, stored(image, np.linspace(0, 1, 1024, dtype=np.float32)))
    found = align._warped(frame, homography.astype(np.float32), raw=raw)
    if raw:
        whole = unpack(np.stack([align._moved(plane, homography) for plane in pack(image)]))
    else:
        whole = align._moved(image, homography)
    # OpenCV rounds coordinates to 1/32 of a pixel, of noise of a thousand codes from one to the
    # next: a coordinate on the edge between two roundings moves a pixel by a thirty-second of that.
    difference = np.abs(found.codes.read(slice(None)).astype(int) - whole)
    assert np.median(difference) == 0
    assert difference.max() <= 2 * 1023 / 32


def test_no_frame_is_read_whole(monkeypatch):
    random = np.random.default_rng(5)
    coarse = random.uniform(0.02, 0.06, (HEIGHT // 8, WIDTH // 8))
    light = np.kron(coarse, np.ones((8, 8))).astype(np.float32)
    frames = []
    for ratio, down in ((1, 6), (4, 0), (16, -6)):
        codes = np.round(np.clip(np.roll(light, down, 0) * ratio, 0, 1) * 1023).astype(np.uint16)
        frames.append(Frame(None, stored(codes, np.linspace(0, 1, 1024, dtype=np.float32))))
    bracket = Bracket("tall", "raw", tuple(frames), (1.0, 4.0, 16.0))
    rows = []
    read = Spool.read

    def noted(self, window, columns=slice(None)):
        start, stop, _ = window.indices(self.shape[0])
        rows.append(stop - start)
        return read(self, window, columns)

    monkeypatch.setattr(Spool, "read", noted)
    monkeypatch.setattr(align, "_ROWS", 64)
    found = align.aligned(bracket)
    assert "moved by" in found.notes[0]
    assert found.frames[0].pixels.shape == (HEIGHT, WIDTH)
    assert max(rows) < HEIGHT / 4
