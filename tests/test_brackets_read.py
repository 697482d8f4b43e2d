"""Every accepted layout becomes the same Bracket: ordered, scaled, explained, hashed."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from pockethdr.brackets import layout
from pockethdr.brackets.bracket import FLIPS, flip, pack, srgb_to_linear, unpack
from pockethdr.brackets.exr import write_exr
from pockethdr.brackets.formats import SOFTWARE, read_header
from pockethdr.brackets.layout import Found, search, shared_names
from pockethdr.brackets.metrics import psnr
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.errors import BracketError
from pockethdr.models.mobilehdr_patches import common_order

TIMES = {"a.jpg": 1 / 15, "b.jpg": 1 / 60, "c.jpg": 1 / 4}
RAW_FIELDS = {"cfa_pattern": "BGGR", "bit_depth": 10, "black_level": 64, "white_level": 1023}


def write_photograph(
    path: Path, seconds: float, orientation: int = 1, iso: int = 100, f_number: float = 1.8
) -> None:
    """A small colour picture, brighter on the left, with EXIF as a phone writes it."""
    ramp = np.linspace(min(255, 2000 * seconds), 0, 48)
    image = np.repeat(np.repeat(ramp[None, :, None], 32, axis=0), 3, axis=2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769).update({0x829A: seconds, 0x8827: iso, 0x829D: f_number})
    Image.fromarray(image.astype(np.uint8)).save(path, exif=exif)


def write_photographs(folder: Path, times: dict[str, float], orientation: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, seconds in times.items():
        write_photograph(folder / name, seconds, orientation)
    return folder


def write_raw(
    folder: Path,
    truth: np.ndarray,
    cfa: str = "BGGR",
    bits: int = 10,
    *,
    size: tuple[int | None, int | None] = (None, None),
) -> Path:
    """A noiseless mosaic bracket of a full-resolution RGB image, and its ground truth, of which
    `size` rows and columns are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    white, black = 2**bits - 1, 2 ** (bits - 4)
    mosaic = flip(sample(flip_image(truth, cfa)), FLIPS[cfa])
    for name, ratio in (("short", 1), ("mid", 4), ("long", 16)):
        numbers = np.round(np.clip(mosaic * ratio, 0, 1) * (white - black) + black)
        kept = np.ascontiguousarray(numbers.astype(np.uint16)[: size[0], : size[1]])
        Image.fromarray(kept).save(folder / f"{name}.png")
    write_exr(folder / "gt.exr", truth[: size[0], : size[1]], half=False)
    fields = {
        "files": ["long.png", "short.png", "mid.png"],
        "exposure_times_s": [0.16, 0.01, 0.04],
        "cfa_pattern": cfa,
        "bit_depth": bits,
        "black_level": black,
        "white_level": white,
        "white_balance_gains": [2.0, 1.0, 1.5],
        "noise_profile_dng_convention": {"S": 1e-4, "O": 1e-6},
        "ground_truth": "gt.exr",
    }
    (folder / "metadata.json").write_text(json.dumps(fields))
    return folder


def flip_image(image: np.ndarray, cfa: str) -> np.ndarray:
    return flip(image.transpose(2, 0, 1), FLIPS[cfa]).transpose(1, 2, 0)


def sample(image: np.ndarray) -> np.ndarray:
    """RGGB sites, written out apart from the code under test."""
    mosaic = np.empty(image.shape[:2], image.dtype)
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = image[0::2, 0::2, 0], image[1::2, 1::2, 2]
    mosaic[0::2, 1::2], mosaic[1::2, 0::2] = image[0::2, 1::2, 1], image[1::2, 0::2, 1]
    return mosaic


def scene(height: int = 12, width: int = 16) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.clip(rng.lognormal(-3, 1, (height, width, 3)), 0, 1).astype(np.float32)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_photographs(tmp_path: Path, suffix: str) -> None:
    times = {Path(name).with_suffix(f".{suffix}").name: t for name, t in TIMES.items()}
    bracket = read_bracket(write_photographs(tmp_path / "night", times, orientation=6))
    assert (bracket.name, bracket.domain, bracket.size()) == ("night", "rgb", (32, 48))
    assert bracket.ratios == pytest.approx((1, 4, 15), rel=1e-4)
    assert [frame.path.name[0] for frame in bracket.frames if frame.path] == ["b", "a", "c"]
    assert bracket.frames[1].exposure_s == pytest.approx(1 / 15)
    assert bracket.orientation == 6, "stored"
    assert bracket.frames[2].pixels.shape == (32, 48, 3), "but not applied"
    assert bracket.exposure_source == "EXIF exposure times"
    path = tmp_path / "night" / f"a.{suffix}"
    assert bracket.sha256[path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    inputs = bracket.inputs()
    assert [frame.shape for frame in inputs] == [(1, 6, 32, 48)] * 3
    assert {frame.dtype for frame in inputs} == {np.dtype(np.float32)}
    encoded = inputs[2][0, :3]
    np.testing.assert_allclose(
        inputs[2][0, 3:], srgb_to_linear(encoded) / bracket.ratios[2], rtol=1e-5
    )


def test_iso_counts_as_exposure(tmp_path: Path) -> None:
    for name, seconds, iso in (("a.jpg", 0.01, 100), ("b.jpg", 0.01, 400), ("c.jpg", 0.04, 400)):
        write_photograph(tmp_path / name, seconds, iso=iso)
    bracket = read_bracket(tmp_path)
    assert bracket.ratios == pytest.approx((1, 4, 16), rel=1e-3)
    assert "ISO" in bracket.exposure_source


def test_nonsense_aperture_is_left_out_of_the_exposure(tmp_path: Path) -> None:
    for name, seconds, f_number in (("a.jpg", 0.01, 0), ("b.jpg", 0.04, 1.8), ("c.jpg", 0.16, 9e9)):
        write_photograph(tmp_path / name, seconds, f_number=f_number)
    bracket = read_bracket(tmp_path)
    assert bracket.ratios == pytest.approx((1, 4, 16), rel=1e-3)
    assert bracket.exposure_source == "EXIF exposure times"


def test_an_aperture_that_one_frame_does_not_say_counts_for_none(tmp_path: Path) -> None:
    """That frame would count as f/1: 3.2 times what it gathered."""
    for name, seconds, f_number in (("a.jpg", 0.01, 1.8), ("b.jpg", 0.04, 0), ("c.jpg", 0.16, 1.8)):
        write_photograph(tmp_path / name, seconds, f_number=f_number)
    assert read_bracket(tmp_path).ratios == pytest.approx((1, 4, 16), rel=1e-3)


def test_pictures_that_are_no_exposures_are_left_out(tmp_path: Path) -> None:
    """Of another size too: their pixels were compared, which ended in a traceback."""
    write_photographs(tmp_path, TIMES)
    Image.new("RGB", (12, 16)).save(tmp_path / "thumb_a.jpg")
    Image.new("RGB", (48, 32)).save(tmp_path / "b_edited.jpg")
    ours = Image.Exif()
    ours[0x0131] = "PocketHDR"
    ours.get_ifd(0x8769).update({0x829A: 1 / 60})
    Image.new("RGB", (48, 32)).save(tmp_path / "HDR.jpg", exif=ours)
    bracket = read_bracket(tmp_path)
    assert bracket.ratios == pytest.approx((1, 4, 15), rel=1e-4)
    assert bracket.notes[:3] == (
        "left out HDR.jpg: made by PocketHDR",
        "left out b_edited.jpg: no EXIF exposure time",
        "left out thumb_a.jpg: no EXIF exposure time",
    )
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(BracketError, match=r"b_edited\.jpg: no EXIF exposure time") as caught:
        read_bracket(tmp_path)
    assert "take it out of the folder" in str(caught.value.fix)


def test_of_dng_and_jpeg_the_domain_decides(tmp_path: Path) -> None:
    write_photographs(tmp_path, TIMES)
    for name in TIMES:
        (tmp_path / name).with_suffix(".dng").touch()
    assert layout.domain_of(tmp_path) == "raw"
    assert find_brackets(tmp_path, domain="rgb") == find_brackets(tmp_path, domain="raw")
    assert read_bracket(tmp_path, domain="rgb").ratios == pytest.approx((1, 4, 15), rel=1e-4)
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(BracketError, match="a raw bracket, left out of rgb"):
        find_brackets(tmp_path, domain="rgb")


def test_sixteen_bit_colour_is_not_cut_to_eight(tmp_path: Path) -> None:
    """Pillow alone reads 16-bit colour as 8 bits without a word."""
    for index, seconds in enumerate((1, 4, 16)):
        image = np.full((8, 8, 3), (1000 + index, 2, 3), np.uint16)
        cv2.imwrite(str(tmp_path / f"{seconds}.png"), image[..., ::-1])
    fields = {"files": ["1.png", "4.png", "16.png"], "exposure_times_s": [1, 4, 16]}
    (tmp_path / "metadata.json").write_text(json.dumps(fields))
    pixels = read_bracket(tmp_path).frames[1].pixels
    np.testing.assert_allclose(pixels[0, 0] * 65535, [1001, 2, 3], rtol=1e-4)


def test_best_of_many(tmp_path: Path) -> None:
    times = {f"{k}.jpg": 2.0**k / 64 for k in range(9)}
    bracket = read_bracket(write_photographs(tmp_path, times))
    assert bracket.ratios == pytest.approx((1, 4, 16), rel=1e-3)
    assert "of 9 frames, the ratios nearest to 4" in bracket.selection
    named = read_bracket(tmp_path, triplet=("8.jpg", "0.jpg", "3.jpg"))
    assert named.ratios == pytest.approx((1, 8, 256), rel=1e-3)
    assert "named by the caller" in named.selection


@pytest.mark.parametrize("cfa", list(FLIPS))
@pytest.mark.parametrize("bits", [10, 12])
def test_raw_bracket_of_any_pattern(tmp_path: Path, cfa: str, bits: int) -> None:
    truth = scene()
    bracket = read_bracket(write_raw(tmp_path / cfa, truth, cfa, bits), domain="raw")
    assert bracket.ratios == pytest.approx((1, 4, 16))
    assert bracket.camera is not None
    assert bracket.camera.noise == (1e-4, 1e-6)
    assert bracket.camera.wb_gains == (2.0, 1.0, 1.5)
    assert bracket.ground_truth is not None
    short = pack(bracket.frames[0].pixels)
    np.testing.assert_allclose(short, bracket.ground_truth, atol=0.6 / 2**bits / (15 / 16))
    unflipped = flip(unpack(bracket.ground_truth), bracket.flips)
    red_site = unflipped[::2, ::2][0, 0] if cfa == "RGGB" else None
    assert red_site in (None, truth[0, 0, 0])
    assert {"gt.exr", "metadata.json"} < bracket.sha256.keys()


@pytest.mark.parametrize("cfa", list(FLIPS))
@pytest.mark.parametrize("size", [(11, 16), (12, 15), (11, 15)])
@pytest.mark.parametrize("stream", [False, True])
def test_an_odd_mosaic_is_filled_up_to_whole_quads(
    tmp_path: Path, cfa: str, size: tuple[int, int], stream: bool
) -> None:
    even = read_bracket(write_raw(tmp_path / "even", scene(), cfa))
    odd = read_bracket(write_raw(tmp_path / "odd", scene(), cfa, size=size), stream=stream)
    assert odd.padding == (size[0] % 2, size[1] % 2)
    assert odd.size() == even.size() == (6, 8)
    for frame, whole in zip(odd.frames, even.frames, strict=True):
        found, expected = (flip(np.asarray(f.pixels), odd.flips) for f in (frame, whole))
        shown = np.s_[: size[0], : size[1]]
        np.testing.assert_array_equal(found[shown], expected[shown])
        if size[0] % 2:
            np.testing.assert_array_equal(found[-1], found[-3])
        if size[1] % 2:
            np.testing.assert_array_equal(found[:, -1], found[:, -3])
    if not stream:
        assert odd.ground_truth is not None
        short = pack(np.asarray(odd.frames[0].pixels))
        np.testing.assert_allclose(short, odd.ground_truth, atol=0.6 / 2**10 / (15 / 16))


def test_wrong_pattern_would_be_seen(tmp_path: Path) -> None:
    """The comparison above fails when the pattern is wrong: it is a gate, not a formality."""
    folder = write_raw(tmp_path, scene(), "BGGR")
    path = folder / "metadata.json"
    path.write_text(path.read_text().replace("BGGR", "RGGB"))
    bracket = read_bracket(folder)
    assert bracket.ground_truth is not None
    error = np.abs(pack(bracket.frames[0].pixels) - bracket.ground_truth)
    assert error.max() > 0.05


def test_kalantari_folder(tmp_path: Path) -> None:
    truth = scene()
    for name, stop in (("262A1", 0), ("262A2", 3), ("262A3", 6)):
        encoded = np.clip(truth * 2.0**stop, 0, 1) ** (1 / 2.2)
        cv2.imwrite(str(tmp_path / f"{name}.tif"), (encoded[..., ::-1] * 65535).astype(np.uint16))
    (tmp_path / "exposure.txt").write_text("0\n3\n6\n")
    cv2.imwrite(str(tmp_path / "HDRImg.hdr"), truth[..., ::-1])
    bracket = read_bracket(tmp_path)
    assert bracket.ratios == (1, 8, 64)
    assert bracket.ground_truth is not None
    short = bracket.inputs()[0][0, 3:]
    assert psnr(bracket.ground_truth, short, data_range=1.0) > 50
    assert psnr(bracket.ground_truth, short[::-1], data_range=1.0) < 30, "red and blue swapped"


def test_kalantari_truth_follows_the_short_frame(tmp_path: Path) -> None:
    """EVs -2 0 2: the stored truth is in units of EV 0, ours in units of the short frame."""
    write_photographs(tmp_path, TIMES)
    (tmp_path / "exposure.txt").write_text("-2 0 2")
    cv2.imwrite(str(tmp_path / "HDRImg.hdr"), np.full((32, 48, 3), 2.0, np.float32))
    bracket = read_bracket(tmp_path)
    assert bracket.ground_truth is not None
    np.testing.assert_allclose(bracket.ground_truth, 0.5, rtol=0.01)


def write_npz(path: Path, order: tuple[int, ...], **extra: np.ndarray) -> np.ndarray:
    """Mobile-HDR's layout of a BGGR mosaic; returns the short mosaic turned to RGGB."""
    mosaic = scene()[..., 0]
    sites = [mosaic[i // 2 :: 2, i % 2 :: 2] for i in order]
    raw = np.stack(sites)
    arrays = {
        key: np.concatenate([np.clip(raw * ratio, 0, 1), np.clip(raw * ratio, 0, 1) / ratio])
        for key, ratio in (("sht", 1.0), ("mid", 3.5), ("lng", 14.0))
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{**arrays, "hdr": raw, **extra})
    return mosaic[::-1, ::-1]


@pytest.mark.parametrize(("name", "order"), [("RGGB", (3, 1, 2, 0)), ("BGGR", (0, 1, 2, 3))])
def test_mobile_hdr(tmp_path: Path, name: str, order: tuple[int, ...]) -> None:
    path = tmp_path / "scene1.npz"
    expected = write_npz(path, order)
    bracket = read_bracket(path, channel_order=name)
    assert bracket.ratios == pytest.approx((1, 3.5, 14), rel=1e-5)
    assert "channels 0-3 over channels 4-7" in bracket.exposure_source
    np.testing.assert_array_equal(bracket.frames[0].pixels, expected)
    np.testing.assert_array_equal(bracket.ground_truth, pack(expected))
    other = read_bracket(path, channel_order="BGGR" if name == "RGGB" else "RGGB")
    assert other.ground_truth is not None
    np.testing.assert_array_equal(other.ground_truth[0], pack(expected)[3])


def test_a_folder_states_the_order_and_the_colours_of_its_archives(tmp_path: Path) -> None:
    path = tmp_path / "scene1.npz"
    expected = write_npz(path, (0, 1, 2, 3))
    colours = {"white_balance_gains": [2.0, 1.0, 1.5], "ccm_cam_to_srgb": [[1, 0, 0]] * 2}
    stated = tmp_path / "metadata.json"
    stated.write_text(json.dumps({"npz_channel_order": "BGGR", **colours}))
    with pytest.raises(BracketError, match=r"metadata\.json: ccm_cam_to_srgb is .*") as refused:
        read_bracket(path)
    assert refused.value.expected == "3×3 finite numbers"
    stated.write_text(json.dumps({"npz_channel_order": "BGGR", "white_balance_gains": [2, 1, 1.5]}))
    bracket = read_bracket(path)
    np.testing.assert_array_equal(bracket.frames[0].pixels, expected)
    assert bracket.camera is not None
    assert bracket.camera.wb_gains == (2, 1, 1.5)
    assert bracket.notes == ("channel order taken as BGGR",)
    # With another order the frames are others, and have to be calibrated on anew.
    assert set(bracket.sha256) == {
        "scene1.npz",
        "metadata.json",
    }
    assert find_brackets(tmp_path, domain="raw") == [path]
    other = read_bracket(path, channel_order="RGGB")
    assert not np.array_equal(np.asarray(other.frames[0].pixels), expected)


def test_one_file_above_a_data_set_states_the_order_of_all(tmp_path: Path) -> None:
    files = [tmp_path / "NPZ_data" / kind / "scene.npz" for kind in ("test_npz/withGT", "dynamic")]
    expected = [write_npz(path, (0, 1, 2, 3)) for path in files]
    (tmp_path / "NPZ_data" / "metadata.json").write_text('{"npz_channel_order": "BGGR"}')
    assert find_brackets(tmp_path) == sorted(files)
    for path, pixels in zip(files, expected, strict=True):
        np.testing.assert_array_equal(read_bracket(path).frames[0].pixels, pixels)
    nearer = files[1].parent / "metadata.json"
    nearer.write_text('{"npz_channel_order": "RGGB"}')
    assert "channel order taken as RGGB" in read_bracket(files[1]).notes[0]
    with pytest.raises(BracketError, match=r"several orders \(withGT BGGR, dynamic RGGB\)"):
        common_order(files, None)
    assert common_order(files, "RGGB") == "RGGB"


@pytest.mark.parametrize("order", ["GRBG", 3, ["BGGR"]])
def test_orders_that_no_archive_has(tmp_path: Path, order: object) -> None:
    write_npz(tmp_path / "scene1.npz", (0, 1, 2, 3))
    (tmp_path / "metadata.json").write_text(json.dumps({"npz_channel_order": order}))
    with pytest.raises(BracketError, match=r"metadata\.json: npz_channel_order is") as refused:
        read_bracket(tmp_path)
    assert refused.value.expected == "RGGB or BGGR"


def test_mobile_hdr_without_ground_truth(tmp_path: Path) -> None:
    write_npz(tmp_path / "test_withoutGT" / "a.npz", (3, 1, 2, 0))
    bracket = read_bracket(tmp_path / "test_withoutGT")
    assert bracket.ground_truth is None
    assert "meaningless" in bracket.notes[0]


def test_find_brackets_in_order_and_says_what_it_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("scene10", "scene2"):
        write_photographs(tmp_path / "deep" / name, TIMES)
    write_raw(tmp_path / "raw", scene())
    write_npz(tmp_path / "npz" / "b.npz", (0, 1, 2, 3))
    write_npz(tmp_path / "npz" / "a.npz", (0, 1, 2, 3))
    write_photographs(tmp_path / "holiday", {"one.jpg": 0.1})
    (tmp_path / ".hidden").mkdir()
    collection = tmp_path / "collection"
    collection.mkdir()
    (collection / "metadata.json").write_text('{"files": [], "exposure_times_s": []}')
    with caplog.at_level(logging.INFO, logger="pockethdr.brackets.read"):
        found = find_brackets(tmp_path)
    names = [str(path.relative_to(tmp_path)) for path in found]
    assert names == ["deep/scene10", "deep/scene2", "npz/a.npz", "npz/b.npz", "raw"]
    assert "collection" in caplog.text
    assert "a single photograph (one.jpg)" in caplog.text
    assert [p.name for p in find_brackets(tmp_path, domain="rgb")] == ["scene10", "scene2"]
    assert any("left out of rgb" in note for note in search(tmp_path, domain="rgb").notes)
    assert find_brackets(tmp_path / "raw") == [tmp_path / "raw"]
    with pytest.raises(BracketError, match="no rgb bracket"):
        find_brackets(tmp_path / "raw", domain="rgb")


def test_what_lies_in_a_bracket_is_noted(tmp_path: Path) -> None:
    """Three loose pictures above bracket folders are a bracket of their own, and hide those."""
    write_photographs(tmp_path / "night", TIMES)
    assert search(tmp_path) == Found((tmp_path / "night",), ())
    write_photographs(tmp_path, {"one.jpg": 0.1, "two.jpg": 0.1})
    note = f"{tmp_path}: fewer than three exposures (one.jpg, two.jpg), no bracket"
    assert search(tmp_path) == Found((tmp_path / "night",), (note,))
    write_photographs(tmp_path, {"three.jpg": 0.1})
    note = f"{tmp_path}: a bracket; not looked into night in it"
    assert search(tmp_path) == Found((tmp_path,), (note,))


def test_results_above_brackets_hide_none(tmp_path: Path) -> None:
    write_photographs(tmp_path / "night", TIMES)
    ours = Image.Exif()
    ours[ExifTags.Base.Software] = SOFTWARE
    for number in range(4):
        Image.new("RGB", (48, 32)).save(tmp_path / f"night{number}.jpg", exif=ours)
    write_photograph(tmp_path / "a_selfie.jpg", 0.1)
    found = search(tmp_path)
    assert found.brackets == (tmp_path / "night",)
    assert "fewer than three exposures (a_selfie.jpg, night0.jpg, night1.jpg, …)" in found.notes[0]


def test_what_is_read_by_nothing_here_is_noted(tmp_path: Path) -> None:
    (tmp_path / "iphone").mkdir()
    (tmp_path / "iphone" / "IMG_1.HEIC").write_bytes(b"")
    write_photographs(tmp_path / "night", TIMES)
    note = f"{tmp_path / 'iphone'}: holds IMG_1.HEIC, which PocketHDR does not read"
    assert search(tmp_path) == Found((tmp_path / "night",), (note,))
    with pytest.raises(BracketError, match=r"IMG_1\.HEIC, which PocketHDR does not read"):
        find_brackets(tmp_path / "iphone")


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    write_photographs(tmp_path / "elsewhere" / "night", TIMES)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "elsewhere")
    assert find_brackets(tmp_path / "photos") == [tmp_path / "photos" / "linked" / "night"]


def test_files_that_macos_lays_beside_others_are_none(tmp_path: Path) -> None:
    write_npz(tmp_path / "scene.npz", (3, 1, 2, 0))
    (tmp_path / "._scene.npz").write_bytes(b"Mac OS X")
    assert find_brackets(tmp_path) == [tmp_path / "scene.npz"]
    assert read_bracket(tmp_path).name == "scene"


def test_names_tell_brackets_apart(tmp_path: Path) -> None:
    places = ["monday/garden", "tuesday/garden", "tuesday/beach", "a/x/one.npz", "b/x/one.npz"]
    named = shared_names([tmp_path / place for place in places])
    assert list(named.values()) == ["monday/garden", "tuesday/garden", "a/x/one", "b/x/one"]


def test_shared_folder(shared_brackets: Path) -> None:
    found = search(shared_brackets)
    assert [path.name for path in found.brackets] == [
        "syn_desk_iso1600_0000.npz",
        "note9_garden_left",
        "phone_tripod_handheld",
        "syn_desk_iso1600",
        "syn_pixel02_iso100",
        "syn_tree_iso800",
    ]
    assert len(found.notes) == 3


@pytest.mark.parametrize("name", ["syn_pixel02_iso100", "syn_tree_iso800", "syn_desk_iso1600"])
def test_shared_raw_brackets_agree_with_their_truth(shared_brackets: Path, name: str) -> None:
    bracket = read_bracket(shared_brackets / name, domain="raw")
    assert bracket.ratios == pytest.approx((1, 4, 16), rel=1e-4)
    assert bracket.ground_truth is not None
    mid = bracket.inputs()[1][0]
    unclipped = mid[:4] < 0.95
    truth = bracket.ground_truth[unclipped]
    assert psnr(mid[4:][unclipped], truth, data_range=1.0) > 39
    assert psnr(1.05 * mid[4:][unclipped], truth, data_range=1.0) < 50
    lit = truth > 0.02
    assert np.median(mid[4:][unclipped][lit] / truth[lit]) == pytest.approx(1, abs=0.02)
    mirrored = bracket.ground_truth[:, ::-1, ::-1][unclipped]
    assert psnr(mid[4:][unclipped], mirrored, data_range=1.0) < 30


def test_shared_mobile_hdr_sample_is_a_crop_of_the_desk(shared_brackets: Path) -> None:
    crop = read_bracket(shared_brackets / "mobilehdr_layout_sample")
    whole = read_bracket(shared_brackets / "syn_desk_iso1600")
    assert crop.ground_truth is not None
    assert whole.ground_truth is not None
    window = (slice(None), slice(384 - 64 - 256, 384 - 64), slice(288 - 16 - 256, 288 - 16))
    np.testing.assert_allclose(crop.ground_truth, whole.ground_truth[window], atol=1e-3)
    np.testing.assert_allclose(
        pack(crop.frames[1].pixels), pack(whole.frames[1].pixels)[window], atol=0.01
    )


def test_shared_note9(shared_brackets: Path) -> None:
    bracket = read_bracket(shared_brackets / "note9_garden_left")
    assert bracket.ratios == pytest.approx((1, 4, 15))
    assert bracket.orientation == 3
    assert bracket.size() == (3024, 2016)
    assert "suggested_triplets_s[0]" in bracket.selection
    assert bracket.ground_truth is None
    assert "pseudo" in bracket.notes[0]


def test_shared_handheld_uses_measured_exposures(shared_brackets: Path) -> None:
    bracket = read_bracket(shared_brackets / "phone_tripod_handheld")
    assert bracket.ratios == pytest.approx((1, 3.52, 19.69), rel=1e-3)
    assert "unreliable" in bracket.exposure_source
    assert "suggested_triplet of" in bracket.selection


@pytest.mark.parametrize("behind", [False, True])
def test_exif_of_a_png_is_found_wherever_it_stands(tmp_path: Path, behind: bool) -> None:
    """In front of the pixels no decoder is asked for it."""
    path = tmp_path / "a.png"
    write_photograph(path, 1 / 15, orientation=6)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(data[start : start + 4], "big")
    without = data[:start] + data[stop:]
    end = without.index(b"IEND") - 4
    path.write_bytes(without[:end] + data[start:stop] + without[end:] if behind else data)
    header = read_header(path)
    assert (header.orientation, header.exposure_s) == (6, pytest.approx(1 / 15))
    path.write_bytes(without)
    assert (read_header(path).orientation, read_header(path).exposure_s) == (1, None)


def test_the_header_of_a_png_needs_no_pixels(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    write_photograph(path, 1 / 15)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", None)
    assert read_header(path).size == (32, 48)


def test_our_own_picture_is_no_exposure_of_a_kalantari_folder(tmp_path: Path) -> None:
    write_photographs(tmp_path, TIMES)
    (tmp_path / "exposure.txt").write_text("0 2 4")
    ours = Image.Exif()
    ours[ExifTags.Base.Software] = SOFTWARE
    Image.new("RGB", (48, 32)).save(tmp_path / "result.jpg", exif=ours)
    assert read_bracket(tmp_path).ratios == (1, 4, 16)


def test_a_response_is_fitted_to_frames_of_one_size(tmp_path: Path) -> None:
    write_photographs(tmp_path, {f"{n}.jpg": 0.002 * 4**n for n in range(4)})
    chosen = {"triplet": ("1.jpg", "2.jpg", "3.jpg"), "response": "debevec"}
    fitted = read_bracket(tmp_path, **chosen).response
    exif = Image.open(tmp_path / "0.jpg").getexif()
    exif.get_ifd(0x8769)[0x829A] = 30.0
    Image.new("RGB", (100, 50), "white").save(tmp_path / "thumbnail.jpg", exif=exif)
    again = read_bracket(tmp_path, **chosen).response
    codes = np.linspace(0, 1, 64, dtype=np.float32)[:, None].repeat(3, axis=1)
    np.testing.assert_array_equal(again(codes), fitted(codes))
