"""A target is a row of one table; each table of what is done with artifacts has its row too."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from pathlib import Path

import pytest

from pockethdr import doctor
from pockethdr.commands import debug
from pockethdr.errors import ArtifactError
from pockethdr.export.read_back import READERS
from pockethdr.export.targets import PRECISIONS, TARGETS
from pockethdr.report.panels import PREFERRED
from pockethdr.runtime.artifact import target_of
from pockethdr.runtime.runner import OPENERS
from pockethdr.runtime.taps import TAPPED
from pockethdr.runtime.verify import CHECKS

#: What every target needs: a runner, a check of its files, a line in doctor.
COMPLETE = {
    "runtime/runner.py": OPENERS,
    "runtime/verify.py": CHECKS,
    "pockethdr/doctor.py": doctor.RUNNERS,
}
#: What files of a kind may not offer: a TensorRT plan tells nothing of its inside.
PARTIAL = {
    "export/read_back.py": READERS,
    "runtime/taps.py": TAPPED,
    "report/panels.py": {target for target, _ in PREFERRED},
}


@pytest.mark.parametrize("place", COMPLETE)
def test_every_table_has_every_target(place: str) -> None:
    table: Collection[str] = COMPLETE[place]
    assert set(table) == set(TARGETS), place


@pytest.mark.parametrize("place", PARTIAL)
def test_no_table_has_a_target_of_its_own(place: str) -> None:
    table: Collection[str] = PARTIAL[place]
    assert set(table) <= set(TARGETS), place


def test_debug_offers_what_can_be_looked_into() -> None:
    assert set(debug.TARGETS) == set(TAPPED)
    assert debug.PRECISIONS == PRECISIONS


@pytest.mark.parametrize("name", TARGETS)
def test_a_suffix_names_its_target(name: str) -> None:
    assert target_of(Path(f"net{TARGETS[name].suffix}")) == name


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(ArtifactError, match="unknown kind of artifact"):
        target_of(Path("net.pt"))


@pytest.mark.parametrize("name", TARGETS)
def test_what_builds_and_what_runs_it_is_there(name: str) -> None:
    module, factory = OPENERS[name]
    assert callable(import_module(TARGETS[name].module).build)
    assert callable(getattr(import_module(module), factory))
