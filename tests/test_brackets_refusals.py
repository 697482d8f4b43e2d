"""Bad brackets are refused with the file, what was expected and what to do; never a traceback."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pockethdr.brackets.exr import write_exr
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.errors import BracketError

TIMES = (0.01, 0.04, 0.16)
RAW = {"cfa_pattern": "RGGB", "bit_depth": 10, "black_level": 64, "white_level": 1023}


def photographs(
    folder: Path, times: tuple[float | None, ...] = TIMES, suffix: str = "jpg"
) -> list[Path]:
    """Noise pictures with these EXIF exposure times, None for no EXIF."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{index}.{suffix}" for index in range(len(times))]
    for path, seconds in zip(paths, times, strict=True):
        exif = Image.Exif()
        if seconds is not None:
            exif.get_ifd(0x8769)[0x829A] = seconds
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(path, exif=exif)
    return paths


def raw(folder: Path, brightest: int = 1000, size: tuple[int, int] = (8, 12)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = ["short.png", "mid.png", "long.png"]
    for name in names:
        Image.fromarray(np.full(size, brightest, np.uint16)).save(folder / name)
    describe(folder, files=names, exposure_times_s=list(TIMES), **RAW)
    return folder


def describe(folder: Path, **fields: Any) -> None:
    (folder / "metadata.json").write_text(json.dumps(fields))


def edited(folder: Path, **fields: Any) -> Path:
    """Change or (None) drop fields of an existing metadata.json."""
    data = json.loads((folder / "metadata.json").read_text()) | fields
    describe(folder, **{key: value for key, value in data.items() if value is not None})
    return folder


def refused(folder: Path, pattern: str, **options: Any) -> BracketError:
    with pytest.raises(BracketError, match=pattern) as caught:
        read_bracket(folder, **options)
    assert caught.value.expected, "says what would have been right"
    return caught.value


def test_missing_and_empty_folder(tmp_path: Path) -> None:
    refused(tmp_path / "no", "no: no such file or folder")
    refused(tmp_path, "an empty folder")
    for root in (tmp_path / "no", tmp_path):
        with pytest.raises(BracketError, match=str(root)):
            find_brackets(root)
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path, "no exposures in it")
    refused(tmp_path / "notes.txt", "a single file")
    (tmp_path / "IMG_1.HEIC").touch()
    assert "convert them to JPEG" in str(refused(tmp_path, "holds IMG_1.HEIC, which"))
    photographs(tmp_path / "garden")
    assert "garden" in str(refused(tmp_path, "a folder of 1 bracket, and none itself").fix)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ((0.01,), "one exposure only"),
        ((0.01, 0.04), "two exposures only"),
        ((0.01, 0.01, 0.01), "equal exposures"),
        ((0.01, 0.04, None), r"2\.jpg: no EXIF exposure time, and no metadata\.json"),
        ((0.01, 0.0, 0.16), r"exposure of 1\.jpg is 0"),
    ],
)
def test_exposures(tmp_path: Path, times: tuple[float | None, ...], message: str) -> None:
    photographs(tmp_path, times)
    assert refused(tmp_path, message).fix


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.995])
def test_truncated_photograph(tmp_path: Path, suffix: str, kept: float) -> None:
    paths = photographs(tmp_path, suffix=suffix)
    names = [path.name for path in paths]
    describe(tmp_path, files=names, exposure_times_s=list(TIMES))
    read_bracket(tmp_path)
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: int(len(data) * kept)])
    error = refused(tmp_path, rf"{names[1]}: (truncated|not an image)")
    assert "copy" in error.fix


def test_truncated_photograph_is_refused_when_it_only_serves_the_curve(tmp_path: Path) -> None:
    paths = photographs(tmp_path, (0.01, 0.04, 0.16, 0.64))
    paths[3].write_bytes(paths[3].read_bytes()[:-200])
    read_bracket(tmp_path, triplet=("0.jpg", "1.jpg", "2.jpg"))
    refused(tmp_path, r"3\.jpg: truncated", triplet=("0.jpg", "1.jpg", "2.jpg"), response="debevec")


def test_damaged_png_checksum(tmp_path: Path) -> None:
    folder = raw(tmp_path)
    data = bytearray((folder / "mid.png").read_bytes())
    data[-20] ^= 0xFF
    (folder / "mid.png").write_bytes(data)
    refused(folder, r"mid\.png: truncated or damaged")


def test_mixed_sizes(tmp_path: Path) -> None:
    paths = photographs(tmp_path)
    exif = Image.open(paths[2]).getexif()
    Image.new("RGB", (64, 40), (90, 90, 90)).save(paths[2], exif=exif)
    refused(tmp_path, r"different sizes \(0\.jpg 48×64, 1\.jpg 48×64, 2\.jpg 40×64\)")


def test_header_of_400_megapixels(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    )
    bomb += chunk(b"IDAT", zlib.compress(bytes(500))) + chunk(b"IEND", b"")
    paths = photographs(tmp_path, suffix="png")
    paths[0].write_bytes(bomb)
    refused(tmp_path, r"0\.png: its header claims 400000000 pixels in a file of \d+ bytes")


def test_not_an_image(tmp_path: Path) -> None:
    paths = photographs(tmp_path)
    paths[0].write_text("hello")
    refused(tmp_path, r"0\.jpg: not an image")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"metadata\.json: not JSON"),
        ("[1]", "holds a list"),
        ("{}", "lacks the field files"),
        ('{"files": ["short.png", "mid.png", "long.png"]}', "lacks the field exposure_times_s"),
        ('{"files": 3, "exposure_times_s": [1]}', "files is 3"),
        ('{"files": ["short.png"], "exposure_times_s": ["1"]}', "exposure_times_s is"),
        ('{"files": ["short.png"], "exposure_times_s": [1, 2]}', "1 files but 2"),
        ('{"files": ["gone.png"], "exposure_times_s": [1]}', r"names gone\.png, which is not in"),
        ('{"files": ["../mid.png"], "exposure_times_s": [1]}', "without slashes"),
        ('{"files": ["short.png"], "exposure_times_s": [NaN]}', r"exposure_times_s is \[nan\]"),
        ('{"files": ["short.png"], "exposure_times_s": [1e999]}', r"exposure_times_s is \[inf\]"),
        (f'{{"files": ["short.png"], "exposure_times_s": [1{"0" * 400}]}}', "exposure_times_s is"),
    ],
)
def test_broken_metadata(tmp_path: Path, text: str, message: str) -> None:
    folder = raw(tmp_path)
    (folder / "metadata.json").write_text(text)
    assert "metadata.json" in refused(folder, message).fix
    assert folder in find_brackets(folder), "found, so that reading it stops the run by name"


def test_broken_json_is_left_out_of_no_domain(tmp_path: Path) -> None:
    """A bracket that may be of either is not passed over as one of the other."""
    folder = raw(tmp_path / "broken")
    photographs(tmp_path / "rgb")
    (folder / "metadata.json").write_text('{"cfa_pattern": ')
    assert folder in find_brackets(tmp_path, domain="raw")
    assert folder in find_brackets(tmp_path, domain="rgb")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"exposure_times_s": [0.01, 0, 0.16]}, r"exposure of mid\.png is 0"),
        ({"exposure_times_s": [0.01, -0.04, 0.16]}, r"exposure of mid\.png is -0\.04"),
        ({"exposure_times_s": [0.01, 0.01, 0.01]}, "equal exposures"),
        ({"exposure_times_reliable": False}, "no measured_relative_exposure"),
        ({"bit_depth": None, "white_level": None}, "lacks bit_depth, white_level"),
        ({"bit_depth": 10**9}, "bit_depth is 1000000000"),
        ({"bit_depth": "ten"}, "bit_depth is 'ten'"),
        ({"cfa_pattern": "XYZW"}, r"metadata\.json: unknown colour filter pattern"),
        ({"white_level": 5000}, r"metadata\.json: black level 64, white level 5000"),
        ({"black_level": "dark"}, "black_level is 'dark'"),
        ({"black_level": True}, "black_level is True"),
        ({"white_level": 10**400}, "white_level is 1000"),
        ({"ccm_cam_to_srgb": [1, 2]}, r"ccm_cam_to_srgb is \[1, 2\]"),
        ({"ccm_cam_to_srgb": [[1, 0, 0], [0, 1, 0], [0, 1, 0]]}, "colour matrix"),
        ({"ccm_cam_to_srgb": [1e39] * 9}, r"ccm_cam_to_srgb is \[1e\+39"),
        ({"white_balance_gains": [float("nan"), 1, 1]}, r"white_balance_gains is \[nan, 1, 1\]"),
        ({"white_level": float("inf")}, "white_level is inf"),
        ({"white_balance_gains": 2}, "white_balance_gains is 2"),
        ({"white_balance_gains": [1, 1]}, r"white_balance_gains is \[1, 1\]"),
        ({"white_balance_gains": [-2, 1, 1]}, r"white balance gains \(-2\.0, 1\.0, 1\.0\)"),
        ({"white_balance_gains": [0, 0, 0]}, "white balance gains"),
        ({"noise_profile_dng_convention": {"S": 1}}, "noise_profile_dng_convention is {'S': 1}"),
        ({"noise_profile_dng_convention": {"S": -1, "O": 0}}, "noise profile"),
        ({"suggested_triplet": "mid.png"}, "suggested_triplet is 'mid.png'"),
        ({"suggested_triplets_s": [[1, "x"]]}, r"suggested_triplets_s is \[\[1, 'x'\]\]"),
        ({"suggested_triplets_s": {"a": 1}}, "suggested_triplets_s is {'a': 1}"),
        ({"exposure_times_reliable": "false"}, "exposure_times_reliable is 'false'"),
        ({"ground_truth": 5}, "ground_truth is 5"),
        ({"ground_truth": "../gt.exr"}, "ground_truth is '../gt.exr'"),
        ({"has_ground_truth": "maybe"}, "has_ground_truth is 'maybe'"),
    ],
)
def test_fields_that_contradict(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    refused(edited(raw(tmp_path), **fields), message)


def test_ten_bits_that_are_sixteen(tmp_path: Path) -> None:
    error = refused(raw(tmp_path, brightest=65472), "a sample of 65472 in a file said to hold 10")
    assert error.expected == "at most 1023"


def test_a_mosaic_below_one_quad(tmp_path: Path) -> None:
    refused(raw(tmp_path, size=(1, 12)), r"short\.png: a mosaic of 1×12")


def test_mosaics_of_sizes_that_fill_up_alike(tmp_path: Path) -> None:
    folder = raw(tmp_path, size=(9, 12))
    Image.fromarray(np.full((10, 12), 900, np.uint16)).save(folder / "mid.png")
    refused(folder, r"different sizes \(short\.png 9×12, mid\.png 10×12")


def test_brackets_of_the_other_domain_only(tmp_path: Path) -> None:
    """The likeliest first mistake: phone JPEGs, and the default domain."""
    photographs(tmp_path / "photos" / "a")
    raw(tmp_path / "mosaics")
    for root, wanted, other in (("photos", "raw", "rgb"), ("mosaics", "rgb", "raw")):
        with pytest.raises(BracketError, match=f"no {wanted} bracket in it") as caught:
            find_brackets(tmp_path / root, domain=wanted)
        assert caught.value.expected == f"{wanted} brackets"
        assert f"a model of the {other} domain (--domain {other})" in caught.value.fix


def test_wrong_domain(tmp_path: Path) -> None:
    photographs(tmp_path / "rgb")
    assert "--domain rgb" in refused(tmp_path / "rgb", "an? rgb bracket", domain="raw").fix
    refused(raw(tmp_path / "raw"), "a raw bracket", domain="rgb")
    refused(tmp_path / "raw", "unknown domain", domain="hdr")
    refused(tmp_path / "rgb", "unknown camera response", response="magic")


def test_mosaic_taken_for_a_photograph_and_back(tmp_path: Path) -> None:
    folder = edited(raw(tmp_path / "a"), **dict.fromkeys(RAW))
    assert "cfa_pattern" in refused(folder, "a grey image").fix
    paths = photographs(tmp_path / "b")
    describe(tmp_path / "b", files=[p.name for p in paths], exposure_times_s=TIMES, **RAW)
    refused(tmp_path / "b", "3 channels, but a colour filter pattern")


def test_ground_truth_that_does_not_fit(tmp_path: Path) -> None:
    folder = edited(raw(tmp_path), ground_truth="gt.exr")
    refused(folder, r"gt\.exr: no such file")
    write_exr(folder / "gt.exr", np.zeros((4, 6, 3), np.float32))
    refused(folder, r"gt\.exr: 4×6, but the frames are 8×12")
    write_exr(folder / "gt.exr", np.full((8, 12, 3), np.nan, np.float32))
    refused(folder, r"gt\.exr: holds NaN")
    write_exr(folder / "gt.exr", np.full((8, 12, 3), 0.5, np.float32))
    assert read_bracket(folder).ground_truth is not None


def test_kalantari_with_the_wrong_count(tmp_path: Path) -> None:
    photographs(tmp_path)
    (tmp_path / "exposure.txt").write_text("0 2")
    refused(tmp_path, r"exposure\.txt: 2 EVs for 3 images")
    (tmp_path / "exposure.txt").write_text("0 2 much")
    refused(tmp_path, r"exposure\.txt: could not convert")


@pytest.mark.parametrize("stop", ["5000", "-5000", "30.5", "inf", "nan"])
def test_kalantari_with_an_ev_that_no_camera_has(tmp_path: Path, stop: str) -> None:
    photographs(tmp_path)
    (tmp_path / "exposure.txt").write_text("0 2 30")
    read_bracket(tmp_path)
    (tmp_path / "exposure.txt").write_text(f"0 2 {stop}")
    error = refused(tmp_path, rf"exposure\.txt: EVs 0, 2, {stop}")
    assert error.expected.startswith("stops from -30 to 30")


def npz(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> Path:
    scene = np.random.default_rng(0).uniform(0.01, 0.05, (4, 6, 8)).astype(np.float32)
    arrays = {
        key: np.concatenate([scene * ratio, scene])
        for key, ratio in (("sht", 1), ("mid", 4), ("lng", 16))
    }
    arrays["hdr"] = scene
    change(arrays)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["mid"].__setitem__((0, 0, 0), np.nan), "mid holds NaN"),
        (lambda a: a["hdr"].__setitem__((0, 0, 0), np.inf), "hdr holds NaN or infinity"),
        (lambda a: a.pop("lng"), r"lacks lng \(has hdr, mid, sht\)"),
        (lambda a: a.update(mid=a["mid"][:4]), r"mid is float32 \(4, 6, 8\)"),
        (lambda a: a["lng"][4:].sort(axis=0), "not channels 0-3 over one exposure"),
        (lambda a: a.update(lng=a["lng"][::-1].copy()), "ratios do not rise"),
        (lambda a: a.update(lng=a["mid"]), "equal exposures"),
        (lambda a: a.update(mid=np.array([{}])), r"mid is object \(1,\)"),
    ],
)
def test_broken_npz(
    tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    read_bracket(npz(tmp_path / "good.npz", lambda _: None))
    refused(npz(tmp_path / "bad.npz", change), rf"bad\.npz.*{message}")


@pytest.mark.parametrize(
    ("shape", "keys", "message"),
    [
        ((8, 5700, 5700), ("sht", "mid", "lng"), r"claims mosaics of 129960000 pixels in a file"),
        ((8, 1000, 1000), ("sht",), "lacks mid, lng"),
        ((9, 1000, 1000), ("sht", "mid", "lng"), "sht is float32"),
    ],
)
def test_npz_is_refused_before_its_samples_are_unpacked(
    tmp_path: Path, shape: tuple[int, ...], keys: tuple[str, ...], message: str
) -> None:
    """A few kilobytes may claim gigabytes."""
    path, header = tmp_path / "a.npz", io.BytesIO()
    entries = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, entries)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key in keys:
            archive.writestr(f"{key}.npy", header.getvalue() + bytes(10_000_000))
    tracemalloc.start()
    refused(path, message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_npz_that_claims_encryption(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", lambda _: None)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, r"a\.npz: cannot be read as \.npz")


def test_truncated_and_crowded_npz(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", lambda _: None)
    refused(path, "unknown channel order", channel_order="GRBG")
    npz(tmp_path / "b.npz", lambda _: None)
    assert "a.npz" in refused(tmp_path, "2 .npz files, each a bracket").fix
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, r"a\.npz: cannot be read as \.npz")


def test_dng_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.dng").write_bytes(b"II*\0" + bytes(200))
    refused(tmp_path, r"a\.dng: LibRaw cannot read it")


def test_a_raw_bracket_has_no_camera_response(tmp_path: Path) -> None:
    assert refused(raw(tmp_path / "a"), "no camera response", response="srgb").fix
    npz(tmp_path / "b.npz", lambda _: None)
    refused(tmp_path / "b.npz", "no camera response", response="debevec")
