"""Calibration spread over the processes of a Ray cluster, to the bytes that one process writes.

The counts of each bracket are integers and calibrations merge exactly, so that the order in which
brackets finish does not show in the result.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import fx

from pockethdr.brackets.bracket import Bracket
from pockethdr.calibration.calibration import Calibration, CalibrationError, merge
from pockethdr.calibration.observe import calibrate, program_sha256
from pockethdr.cluster import on_ray


def calibrator(address: str | None) -> Callable[..., Calibration]:
    """`calibrate`, or with the address of a cluster the same on Ray."""
    return partial(calibrate_on_ray, address=address) if address else calibrate


def calibrate_on_ray(
    program: fx.GraphModule,
    brackets: Sequence[Path],
    *,
    address: str,
    seed: int,
    tile: tuple[int, int],
    patches_per_bracket: int = 16,
    read: Callable[[Path], Bracket] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Calibration:
    """What `calibrate` returns, by the workers of a Ray cluster.

    Args:
        brackets: folders that the workers can read under these paths.
        address: of a running cluster (`host:port`), or `local`.
        read: how a folder becomes a bracket, in this process too; must be picklable.

    Raises:
        Unavailable: Ray is not installed.
        ClusterError: no cluster answers at the address.
        CalibrationError: as `calibrate`.
    """
    if not brackets:
        raise CalibrationError("no bracket to calibrate on", fix="give a folder of brackets")
    settings = {
        "seed": seed,
        "tile": tile,
        "patches_per_bracket": patches_per_bracket,
        "read": read,
        "graph_sha256": program_sha256(program),
    }
    whole = None
    job = (_packed(program), settings)
    for _, part in on_ray(_observed, job, brackets, address=address):
        found = Calibration.from_json(part)
        whole = found if whole is None else merge(whole, found)
        if progress:
            progress(found.brackets[0].name)
    assert whole is not None
    return whole


def _observed(job: tuple[bytes, dict[str, Any]], folder: Path) -> str:
    """Runs in a worker: the calibration of one bracket, as JSON."""
    packed, settings = job
    return calibrate(_unpacked(packed, settings["graph_sha256"]), [folder], **settings).to_json()


def _packed(program: fx.GraphModule) -> bytes:
    """A program with its node names and shapes, which plain pickling would lose, and no more.

    What else a trace notes refers to modules of this process, which a worker need not have.
    """
    from torch.fx._graph_pickler import GraphPickler

    plain = fx.GraphModule(program, copy.deepcopy(program.graph))  # of no subclass
    for node in plain.graph.nodes:
        node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    return GraphPickler.dumps(plain)


def _unpacked(packed: bytes, sha256: str) -> fx.GraphModule:
    from torch._subclasses import FakeTensorMode
    from torch.fx._graph_pickler import GraphPickler

    program = GraphPickler.loads(packed, FakeTensorMode())
    assert isinstance(program, fx.GraphModule)
    assert program_sha256(program) == sha256, "the program changed on its way to the worker"
    return program
