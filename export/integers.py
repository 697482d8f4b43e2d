"""Which program becomes INT8, and on which ranges: as calibrated, or as tuned.

`materials` exports by these two and `rehearsal` searches by them, so that what was searched is what
is exported.
"""

from __future__ import annotations

from torch import fx

from pockethdr.calibration.calibration import Calibration
from pockethdr.export.input_gains import with_input_gains
from pockethdr.export.placement import check_patterns, handed_on_below_zero
from pockethdr.export.recipe import Recipe
from pockethdr.export.tuned import Tuned


def prepared(program: fx.GraphModule, recipe: Recipe, tuned: Tuned | None) -> fx.GraphModule:
    """A copy of a static program with its inputs scaled and, if there are any, its tuned weights.

    Raises:
        RecipeError: the recipe's gains or patterns do not fit the network.
        WeightsError: `tuned` is of another network, or of another form of this one.
    """
    made = tuned.program(program) if tuned else with_input_gains(program, recipe.input_gains)
    check_patterns(made, recipe)
    return made


def ranges_for(
    program: fx.GraphModule,
    calibration: Calibration,
    recipe: Recipe,
    tuned: Tuned | None,
    *,
    symmetric: bool = False,
) -> dict[str, tuple[float, float]]:
    """Node name → (low, high) of each value of a prepared program; a learned range goes first.

    Raises:
        CalibrationError: the recipe has methods for tensors that were not calibrated.
    """
    found = calibration.ranges(
        recipe.method,
        methods=recipe.methods,
        symmetric=symmetric,
        below=handed_on_below_zero(program),
    )
    return {**found, **(tuned.ranges if tuned else {})}
