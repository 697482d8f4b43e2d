"""Calibration spread over the processes of a Ray cluster, to the bytes that one process writes.

A bracket is a task. Its counts are integers and calibrations merge exactly, so that neither the
number of workers shows in the result, nor the order in which they finish, nor one that died: Ray
gives its bracket to another.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from torch import fx

from pockethdr.brackets.bracket import Bracket
from pockethdr.calibration.calibration import Calibration, CalibrationError, merge
from pockethdr.calibration.observe import calibrate, program_sha256
from pockethdr.errors import PocketError, Unavailable

#: Instead of an address: processes of this machine, one a core, gone when calibration is done.
LOCAL = "local"


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

    At most two brackets a worker are under way, so that memory does not grow with their number.

    Args:
        brackets: folders that the workers can read under these paths.
        address: of a running cluster (`host:port`), or `local`.
        read: how a folder becomes a bracket, in this process too; must be picklable.

    Raises:
        Unavailable: Ray is not installed.
        CalibrationError: as `calibrate`; or no cluster answers at the address.
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
    with _connected(address) as ray:
        job = ray.put((_packed(program), settings))
        observe = ray.remote(max_retries=-1)(_observed)
        for part in _results(ray, (observe.remote(job, folder) for folder in brackets)):
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


def _results(ray: Any, tasks: Iterator[Any]) -> Iterator[str]:
    """Results as they come; a worker's error is raised as itself."""
    window = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting = list(islice(tasks, window))
    while waiting:
        (done, *_), waiting = ray.wait(waiting)
        waiting += islice(tasks, 1)
        try:
            yield ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PocketError):
                raise error.cause from None
            raise


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import ray
    except ImportError as error:
        raise Unavailable(
            "Ray is not installed", install="pip install 'pockethdr[scale]'"
        ) from error
    where = None if address == LOCAL else address
    try:
        ray.init(where, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise CalibrationError(
            f"no Ray cluster answers at {address}: {error}",
            expected=f"`{LOCAL}`, or the host:port of a running cluster",
            fix="start one with `ray start --head`, which prints its address",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


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
