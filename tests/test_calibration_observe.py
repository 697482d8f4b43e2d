"""Calibration of a small program: what is seen, what stops it, what is written."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pockethdr.brackets.bracket import Bracket, Frame
from pockethdr.brackets.read import read_bracket
from pockethdr.brackets.simulate import SimulationSettings, simulate, write_bracket
from pockethdr.calibration.calibration import Calibration, CalibrationError, merge
from pockethdr.calibration.histogram import BINS
from pockethdr.calibration.observe import calibrate, program_sha256
from pockethdr.calibration.patches import Patches, chosen_patches, cut, padded
from pockethdr.errors import BracketError

TILE = (32, 32)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(18, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, short: Tensor, mid: Tensor, long: Tensor) -> Tensor:
        features = torch.relu(self.first(torch.cat([short, mid, long], 1)))
        return torch.sigmoid(self.last(features))


def traced(net: nn.Module) -> torch.fx.GraphModule:
    frames = tuple(torch.zeros(1, 6, *TILE) for _ in range(3))
    module = torch.export.export(net.eval(), frames).run_decompositions({}).module()
    assert isinstance(module, torch.fx.GraphModule)
    return module


@pytest.fixture(scope="module")
def program() -> torch.fx.GraphModule:
    return traced(Net())


def bracket(seed: int, size: tuple[int, int] = (96, 128), lamp: bool = True) -> Bracket:
    """A dark scene in a smooth gradient, with one bright tile at rows 32.., columns 64..."""
    random = np.random.default_rng(seed)
    scene = np.linspace(0.001, 0.02, size[1]) * random.uniform(0.5, 1.5, (*size, 1))
    scene = np.repeat(scene.mean(axis=2, keepdims=True), 3, axis=2)
    if lamp:
        scene[32:64, 64:96] = 0.9
    frames = tuple(
        Frame(None, np.clip(scene * ratio, 0, 1).astype(np.float32)) for ratio in (1, 4, 16)
    )
    return Bracket(
        f"scene{seed}",
        "rgb",
        frames,  # type: ignore[arg-type]
        (1.0, 4.0, 16.0),
        response=lambda encoded: encoded,
        sha256={"short.png": f"{seed:064x}"},
    )


def calibrated(program: torch.fx.GraphModule, *seeds: int, seed: int = 0) -> Calibration:
    scenes = [bracket(number) for number in seeds]
    return calibrate(program, scenes, seed=seed, tile=TILE, patches_per_bracket=4)


def test_every_activation_and_no_constant_is_seen(program: torch.fx.GraphModule) -> None:
    seen = calibrated(program, 1)
    activations = [n.name for n in program.graph.nodes if n.op in ("placeholder", "call_function")]
    assert set(seen.tensors) <= set(activations)
    assert {"short", "cat", "relu", "sigmoid"} <= set(seen.tensors)
    assert seen.tensors["short"].count == 4 * 6 * 32 * 32
    assert seen.tensors["short"].max == np.float32(0.9)
    assert seen.tensors["relu"].min == 0.0


def test_halves_merge_into_the_whole(program: torch.fx.GraphModule) -> None:
    whole = calibrated(program, 1, 2, 3)
    halves = calibrated(program, 3), calibrated(program, 2, 1)
    assert merge(*halves).to_json() == whole.to_json()
    assert merge(*reversed(halves)).to_json() == whole.to_json()
    assert halves[0].to_json() != whole.to_json()


def test_same_list_and_seed_are_the_same_bytes(
    program: torch.fx.GraphModule, tmp_path: Path
) -> None:
    first, second = calibrated(program, 1, 2), calibrated(program, 1, 2)
    assert first.to_json() == second.to_json()
    assert first.to_json() != calibrated(program, 1, 2, seed=9).to_json()
    first.save(tmp_path / "calibration.json")
    again = Calibration.load(tmp_path / "calibration.json")
    assert again.to_json() == first.to_json()
    assert again.ranges("mse") == first.ranges("mse")
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]


def test_ranges_of_every_method(program: torch.fx.GraphModule) -> None:
    seen = calibrated(program, 1)
    for method in ("minmax", "percentile", "mse", "entropy"):
        ranges = seen.ranges(method)
        assert set(ranges) == set(seen.tensors)
        clipped = [seen.tensors[name].share_outside(*found) for name, found in ranges.items()]
        assert max(clipped) == 0 if method == "minmax" else max(clipped) < 0.02


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_brightest_tile_is_always_in(count: int) -> None:
    patches = Patches(bracket(5), TILE)
    for seed in range(10):
        places = chosen_patches(patches, count, seed)
        assert (32, 64) in places
        assert len(set(places)) == count


def test_the_moving_tile_is_in() -> None:
    still = bracket(5)
    mid = still.frames[1].pixels.copy()
    mid[64:96, 0:16] += 0.2
    moved = replace(still, frames=(still.frames[0], Frame(None, mid), still.frames[2]))
    patches = Patches(moved, TILE)
    assert all((64, 0) in chosen_patches(patches, 3, seed) for seed in range(5))


def test_patches_spread_over_brightness() -> None:
    """Without the forced tiles, nine draws of the gradient take every third of it."""
    patches = Patches(bracket(6, (96, 480), lamp=False), TILE)
    for seed in range(5):
        columns = [left for _, left in chosen_patches(patches, 12, seed)]
        assert all(any(low <= c < low + 160 for c in columns) for low in (0, 160, 320))


def test_patches_reach_the_last_row_and_column() -> None:
    patches = Patches(bracket(1, (100, 70)), TILE)
    assert (68, 38) in chosen_patches(patches, 1000, 0)


@pytest.mark.parametrize("size", [(100, 70), (20, 70), (100, 20)])
def test_patches_are_those_of_whole_frames(size: tuple[int, int]) -> None:
    scene = bracket(2, size)
    patches, frames = Patches(scene, TILE), padded(scene.inputs(), TILE)
    assert frames[0].shape[2:] == patches.size
    for place in chosen_patches(patches, 1000, 0):
        for found, frame in zip(patches.at(place), frames, strict=True):
            np.testing.assert_array_equal(found, cut([frame], place, TILE)[0])


def test_memory_does_not_grow_with_the_size_of_brackets(
    program: torch.fx.GraphModule, tmp_path: Path
) -> None:
    """Four times the rows; what lies on disk is read a row of patches at a time."""

    def peak(height: int, name: str) -> int:
        folder = tmp_path / name
        scene = np.random.default_rng(0).uniform(0.05, 1, (height, 256, 3)).astype(np.float32)
        settings = SimulationSettings(domain="rgb", shake_px=0.0, shake_deg=0.0, margin=0)
        write_bracket(simulate(scene, settings, seed=1), folder)
        read = read_bracket(folder, stream=True)
        tracemalloc.start()
        calibrate(program, [read], seed=0, tile=TILE, patches_per_bracket=4)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(256, "warm")
    assert peak(1024, "large") < 1.1 * peak(256, "small")


def test_a_bracket_smaller_than_a_tile_is_mirrored(program: torch.fx.GraphModule) -> None:
    small = bracket(1, (20, 40))
    frames = padded(small.inputs(), TILE)
    assert frames[0].shape == (1, 6, 32, 40)
    np.testing.assert_array_equal(frames[0][..., 20, :], frames[0][..., 19, :])
    assert calibrate(program, [small], seed=0, tile=TILE).brackets[0].patches == ((0, 0), (0, 8))


def test_a_bracket_that_does_not_load_stops_the_run_by_name(
    program: torch.fx.GraphModule, tmp_path: Path
) -> None:
    def read(folder: Path) -> Bracket:
        if folder.name == "broken":
            raise BracketError(f"{folder}/long.jpg is truncated")
        return bracket(1)

    folders = [tmp_path / "good", tmp_path / "broken", tmp_path / "never"]
    with pytest.raises(CalibrationError, match=r"bracket broken .*\n.*long.jpg is truncated"):
        calibrate(program, folders, seed=0, tile=TILE, read=read)


def test_a_tensor_that_overflows_is_named(program: torch.fx.GraphModule) -> None:
    net = Net()
    nn.init.constant_(net.first.weight, 3e38)
    with pytest.raises(CalibrationError, match=r"scene1: tensor .*conv.* NaN or infinite"):
        calibrated(traced(net), 1)


def test_a_bracket_of_the_other_domain_is_refused(program: torch.fx.GraphModule) -> None:
    mosaic = tuple(Frame(None, np.full((96, 96), level, np.float32)) for level in (0.1, 0.2, 0.4))
    raw = Bracket("mosaic", "raw", mosaic, (1.0, 2.0, 4.0))  # type: ignore[arg-type]
    with pytest.raises(CalibrationError, match="mosaic is raw, 8 channels"):
        calibrate(program, [raw], seed=0, tile=TILE)


def test_a_bracket_that_comes_twice_is_refused(program: torch.fx.GraphModule) -> None:
    with pytest.raises(CalibrationError, match="scene1 is the same as scene1"):
        calibrated(program, 1, 1)
    with pytest.raises(CalibrationError, match="the same as"):
        merge(calibrated(program, 1, 2), calibrated(program, 2, 3))


def test_nothing_to_calibrate_on_is_an_error(program: torch.fx.GraphModule) -> None:
    with pytest.raises(CalibrationError, match="no bracket"):
        calibrate(program, [], seed=0, tile=TILE)


def test_merge_refuses_what_does_not_fit(program: torch.fx.GraphModule) -> None:
    ours = calibrated(program, 1)
    with pytest.raises(CalibrationError, match="differ in seed: 0 and 1"):
        merge(ours, calibrated(program, 2, seed=1))
    with pytest.raises(CalibrationError, match="differ in graph_sha256"):
        merge(ours, replace(calibrated(program, 2), graph_sha256="0" * 64))
    with pytest.raises(CalibrationError, match="differ in versions"):
        merge(ours, replace(calibrated(program, 2), versions={"torch": "1"}))


def test_program_sha256_sees_weights_and_graph() -> None:
    net = Net()
    before = program_sha256(traced(net))
    assert program_sha256(traced(Net())) == before
    with torch.no_grad():
        net.last.bias[0] += 1e-3
    assert program_sha256(traced(net)) != before


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("seed"),
        lambda data: data.update(schema=99),
        lambda data: data["tensors"].update(relu={"bounds": [0, 1], "runs": [[BINS, 5]]}),
        lambda data: data["tile"].append(3),
    ],
)
def test_a_damaged_file_is_refused(
    program: torch.fx.GraphModule, tmp_path: Path, damage: object
) -> None:
    data = json.loads(calibrated(program, 1).to_json())
    damage(data)  # type: ignore[operator]
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match="is no calibration file"):
        Calibration.load(path)
    path.write_bytes(b"\x80\x04 not json")
    with pytest.raises(CalibrationError, match="is no calibration file"):
        Calibration.load(path)


def test_memory_does_not_grow_with_the_number_of_brackets(program: torch.fx.GraphModule) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        calibrate(
            program,
            (bracket(number) for number in range(count)),
            seed=0,
            tile=TILE,
            patches_per_bracket=4,
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(2)
    assert peak(12) < 1.2 * peak(3)
