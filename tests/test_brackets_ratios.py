"""Exposure ratios from pixels: right where they can be told, silent where they cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pockethdr.brackets.align import aligned
from pockethdr.brackets.bracket import Bracket, Frame, linear_to_srgb
from pockethdr.brackets.ratios import checked
from pockethdr.brackets.read import read_bracket
from pockethdr.errors import BracketError

HEIGHT, WIDTH = 360, 480


def scene(seed=0, height=HEIGHT, width=WIDTH):
    """Smooth patches over five stops with fine detail, linear H×W×3."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(-5, 0, (9, 12)).astype(np.float32)
    levels = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    detail = np.kron(random.uniform(0.8, 1.25, (height // 6, width // 6)), np.ones((6, 6)))
    return (np.exp2(levels) * detail)[..., None].repeat(3, axis=2).astype(np.float32) * 0.2


def bracket(true, claimed, *, noise=0.01, scenes=(0, 0, 0), shifts=((0, 0),) * 3):
    random = np.random.default_rng(9)
    frames = []
    for ratio, seed, (down, right) in zip(true, scenes, shifts, strict=True):
        light = np.roll(scene(seed), (down, right), (0, 1)) * ratio
        seen = np.clip(light + random.normal(0, noise, light.shape) * 0.1, 0, 1)
        frames.append(Frame(None, linear_to_srgb(seen).astype(np.float32)))
    return Bracket("made", "rgb", tuple(frames), claimed, exposure_source="EXIF")


def test_right_claims_are_kept():
    given = bracket((1, 4, 16), (1.0, 4.0, 16.0))
    assert checked(given, assumed_response=True) is given


def test_wrong_claims_are_overruled_and_named():
    found = checked(bracket((1, 3, 9), (1.0, 64.0, 256.0)), assumed_response=True)
    assert found.ratios == pytest.approx((1, 3, 9), rel=0.05)
    assert found.exposure_source.startswith("the pixels: ×1, ×3")
    assert "EXIF say ×1, ×64, ×256" in found.exposure_source


def test_a_claim_is_doubted_where_not_all_can_be_measured():
    """The long frame is clipped nearly everywhere: only the first ratio is known to be wrong."""
    given = bracket((1, 3, 9), (1.0, 64.0, 256.0))
    flat = replace(given.frames[2], pixels=np.ones_like(given.frames[2].pixels))
    found = checked(replace(given, frames=(*given.frames[:2], flat)), assumed_response=True)
    assert found.ratios == given.ratios
    assert "ratios of EXIF are in doubt: a frame is 3" in found.notes[-1]
    assert "not 64 times" in found.notes[-1]


def test_an_assumed_response_is_given_more_room():
    given = bracket((1, 6, 30), (1.0, 4.0, 16.0))
    assert checked(given, assumed_response=True) is given
    assert checked(given, assumed_response=False).ratios == pytest.approx((1, 6, 30), rel=0.1)


def test_flat_frames_tell_nothing():
    flat = tuple(Frame(None, np.full((64, 64, 3), v, np.float32)) for v in (0.1, 0.2, 0.4))
    given = Bracket("flat", "rgb", flat, (1.0, 50.0, 99.0))
    assert checked(given, assumed_response=True) is given


def test_a_frame_of_another_scene_is_refused():
    with pytest.raises(BracketError, match="do not show the same scene") as caught:
        checked(bracket((1, 4, 16), (1.0, 4.0, 16.0), scenes=(0, 0, 5)), assumed_response=True)
    assert "another scene" in caught.value.fix


def test_exposure_times_of_each_others_frames_are_refused():
    swapped = bracket((16, 4, 1), (1.0, 4.0, 16.0))
    with pytest.raises(BracketError, match=r"should be 4 times as bright .* and is 0\.2"):
        checked(swapped, assumed_response=True)


def _photographs(folder, frames, exif=None):
    folder.mkdir(exist_ok=True)
    for index, frame in enumerate(frames):
        codes = np.round(np.asarray(frame.pixels) * 255).astype(np.uint8)
        tags = Image.Exif() if exif is None else exif[index]
        Image.fromarray(codes).save(folder / f"{index}.png", exif=tags)
    return folder


def test_photographs_without_exif_are_ordered_by_their_pixels(tmp_path):
    made = bracket((1, 4, 16), (1.0, 4.0, 16.0))
    shuffled = [made.frames[i] for i in (2, 0, 1)]
    found = read_bracket(_photographs(tmp_path, shuffled))
    assert [frame.path.name for frame in found.frames] == ["1.png", "2.png", "0.png"]
    assert found.ratios == pytest.approx((1, 4, 16), rel=0.1)
    assert "pixels" in found.exposure_source


def test_mixed_orientations_are_refused(tmp_path):
    tags = []
    for seconds, orientation in ((0.01, 1), (0.04, 6), (0.16, 1)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif.get_ifd(0x8769)[0x829A] = seconds
        tags.append(exif)
    made = bracket((1, 4, 16), (1.0, 4.0, 16.0))
    with pytest.raises(BracketError, match=r"different EXIF orientations \(0\.png 1, 1\.png 6"):
        read_bracket(_photographs(tmp_path, made.frames, tags))


@pytest.mark.parametrize(("level", "word"), [(0.0, "black"), (1.0, "white")])
def test_black_and_white_frames_are_refused(tmp_path, level, word):
    made = bracket((1, 4, 16), (1.0, 4.0, 16.0))
    empty = Frame(None, np.full((HEIGHT, WIDTH, 3), level, np.float32))
    tags = [Image.Exif() for _ in range(3)]
    for exif, seconds in zip(tags, (0.01, 0.04, 0.16), strict=True):
        exif[0x010F] = "Maker"  # Pillow writes no EXIF that has only a sub-directory
        exif.get_ifd(0x8769)[0x829A] = seconds
    folder = _photographs(tmp_path, [made.frames[0], empty, made.frames[2]], tags)
    with pytest.raises(BracketError, match=rf"1\.png: all of it is {word}"):
        read_bracket(folder)


def test_streamed_frames_are_the_frames(tmp_path, shared_brackets):
    for name in ("syn_desk_iso1600", "phone_tripod_handheld"):
        whole = read_bracket(shared_brackets / name)
        streamed = read_bracket(shared_brackets / name, stream=True)
        assert streamed.ratios == whole.ratios
        for a, b in zip(whole.inputs(), streamed.inputs(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_shaken_bracket_is_laid_over_its_middle_frame():
    given = bracket((1, 4, 16), (1.0, 4.0, 16.0), shifts=((9, -6), (0, 0), (-7, 11)))
    found = aligned(given)
    inside = (slice(30, -30), slice(30, -30))
    for index, ratio in ((0, 4), (2, 0.25)):
        before, after = (
            _error(b.frames[index], b.frames[1], ratio, inside) for b in (given, found)
        )
        assert after < 0.4 * before
    assert " moved by " in found.notes[0]
    assert found.frames[1] is given.frames[1]


def _error(frame, middle, ratio, inside):
    """Median difference in stops where both expose."""
    a, b = (np.asarray(f.pixels)[inside] for f in (frame, middle))
    both = (a > 0.1) & (b > 0.1) & (a < 0.95) & (b < 0.95)
    stops = 2.2 * np.abs(np.log2(a[both] / b[both]) + np.log2(ratio) / 2.2)
    return float(np.median(stops))


def test_frames_that_lie_well_stay(shared_brackets):
    still = read_bracket(shared_brackets / "note9_garden_left", stream=True)
    assert aligned(still).frames == still.frames


def test_what_cannot_be_aligned_is_left_and_said():
    given = bracket((1, 4, 16), (1.0, 4.0, 16.0))
    alien = bracket((1, 4, 16), (1.0, 4.0, 16.0), scenes=(7, 7, 7)).frames[0]
    other = replace(given, frames=(alien, *given.frames[1:]))
    found = aligned(other)
    assert found.frames[0] is other.frames[0]
    assert "not moved" in found.notes[0]
