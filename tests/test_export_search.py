"""The search keeps in float what loses most for its cost, and nothing that need not be."""

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from judged_toy import NETWORK

from pockethdr.brackets.read import read_bracket
from pockethdr.brackets.save import write_bracket
from pockethdr.brackets.simulate import SimulationSettings as Settings
from pockethdr.brackets.simulate import simulate
from pockethdr.cli import main
from pockethdr.errors import BracketError
from pockethdr.export.groups import Group, groups_of
from pockethdr.export.max_loss import recipe_for_loss
from pockethdr.export.recipe import RECIPES, Recipe, recipe_from_json
from pockethdr.export.search import AIM, Memory, search
from pockethdr.export.simulate import SCHEME, Loss
from pockethdr.export.static import static_program
from pockethdr.models.load import load_model

BASE = RECIPES["all-but-last"]
SAMPLE = Path(str(files("pockethdr.brackets") / "sample"))


class Added:
    """Losses that add up: each node in float takes its own away. Remembers what it is asked."""

    def __init__(self, costs: dict[str, tuple[float, float]], floor: float = 0.0) -> None:
        self.costs, self.floor, self.asked, self.scenes = costs, floor, [], ()

    def loss(self, recipe: Recipe) -> Loss:
        self.asked.append(recipe)
        left = [cost for name, cost in self.costs.items() if name not in recipe.float_nodes]
        return Loss(*(-self.floor - sum(cost[i] for cost in left) for i in (0, 1)))

    sensitivity = loss


GROUPS = [Group("a", ("a",), 100), Group("b", ("b",), 10), Group("c", ("c",), 1000)]
COSTS = {"a": (0.5, 0.0), "b": (0.01, 0.3), "c": (0.05, 0.02)}


def searched(
    costs: dict[str, tuple[float, float]],
    memory: Path,
    *,
    max_loss: float = 0.1,
    floor: float = 0.0,
    unseen: float = 0.0,
):
    simulation = Added(costs, floor)
    found = search(
        simulation,
        Added(costs, floor + unseen),
        GROUPS,
        BASE,
        max_loss=max_loss,
        memory=Memory(memory, "key"),
    )
    return found, simulation


def test_what_loses_most_for_its_cost_stays_float(tmp_path: Path) -> None:
    found, _ = searched(COSTS, tmp_path / "memory.json")
    assert found.met
    assert found.recipe.float_nodes == ("a", "b")
    assert [reverted.group for reverted in found.reverted] == ["a", "b"]
    assert "0.500 dB PSNR-µ" in found.reverted[0].why
    assert found.before == Loss(-0.56, -0.32)
    assert found.after.within(0.1 * AIM)
    assert recipe_from_json(found.recipe.to_json()) == found.recipe


def test_what_need_not_be_float_is_not(tmp_path: Path) -> None:
    """`b` looks cheap and goes first, but `a` alone would have done."""
    found, _ = searched({**COSTS, "b": (0.07, 0.0), "c": (0.0, 0.0)}, tmp_path / "m.json")
    assert found.recipe.float_nodes == ("a",)


def test_all_integer_is_the_base_itself(tmp_path: Path) -> None:
    found, _ = searched(dict.fromkeys("abc", (0.01, 0.01)), tmp_path / "m.json")
    assert found.recipe == BASE
    assert found.met


@pytest.mark.parametrize(("floor", "unseen"), [(0.3, 0.0), (0.0, 0.2)])
def test_a_target_that_cannot_be_met_is_not(tmp_path: Path, floor: float, unseen: float) -> None:
    found, _ = searched(COSTS, tmp_path / "m.json", floor=floor, unseen=unseen)
    assert not found.met
    assert found.confirmed.worst > 0.1
    assert {"a", "b"} <= set(found.recipe.float_nodes)


def test_nothing_is_simulated_twice(tmp_path: Path) -> None:
    first, before = searched(COSTS, tmp_path / "m.json")
    again, simulation = searched(COSTS, tmp_path / "m.json")
    assert before.asked
    assert simulation.asked == []
    assert replace(again, tried=first.tried) == first
    assert Memory(tmp_path / "m.json", "other").losses == {}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small brackets with ground truth."""
    root = tmp_path_factory.mktemp("brackets")
    generator = torch.Generator().manual_seed(0)
    for number in range(3):
        hdr = torch.rand(160, 160, 3, generator=generator).numpy() ** 3
        write_bracket(
            simulate(hdr, Settings(), seed=number, name=f"s{number}"), root / f"s{number}"
        )
    return root


def test_a_network_becomes_a_recipe_and_an_export(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    spec, out = f"{tmp_path / 'net.py'}:factory", tmp_path / "out"
    arguments = ["export", spec, "--brackets", scenes, "--out", out, "--size", "64x64"]
    more = ["--targets", "onnx", "--precisions", "int8", "--max-patches", "2"]
    run: Callable[..., object] = CliRunner().invoke
    result = run(main, [str(a) for a in (*arguments, *more, "--max-loss", "0.05")])
    assert result.exit_code in (0, 1), result.output  # random weights: either, and it says which
    assert ("NOT met" in result.output) == bool(result.exit_code)
    assert "1 brackets say little" in result.output
    recipe = recipe_from_json((out / "recipe.json").read_text())
    assert recipe.name in ("all-but-last", "all-but-last-0.05dB")
    assert "<svg" in (out / "sensitivity.svg").read_text()
    again = run(main, [str(a) for a in (*arguments, *more, "--recipe", out / "recipe.json")])
    assert again.exit_code == 0, again.output  # the same settings: nothing to build


def test_groups_cover_every_integer_operation_that_computes() -> None:
    program = static_program(load_model("dsan-m16", domain="raw"), size=(32, 32)).program
    groups = groups_of(program, BASE, SCHEME)
    nodes = [name for group in groups for name in group.nodes]
    assert len(nodes) == len(set(nodes))
    assert {"fuse", "blocks.0.first", "tail"} <= {group.name for group in groups}
    assert all(group.cost > 0 for group in groups)


def test_brackets_without_truth_are_refused(tmp_path: Path) -> None:
    loaded = load_model("dsan-m16", domain="raw")
    assert read_bracket(SAMPLE).ground_truth is not None
    with pytest.raises(BracketError, match=r"^1 bracket\nexpected: at least two with ground truth"):
        recipe_for_loss(
            loaded, max_loss=0.1, brackets=[SAMPLE], size=(64, 64), cache=tmp_path / "m.json"
        )
