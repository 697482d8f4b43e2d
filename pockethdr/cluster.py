"""Work on brackets, a task each, spread over the processes of a Ray cluster.

A task depends on its own bracket alone, and one whose worker died is done again by another. So
neither the number of workers shows in a result, nor which of them did what.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from pockethdr.errors import PocketError, Unavailable

#: Instead of an address: processes of this machine, one a core, gone when the work is done.
LOCAL = "local"
#: Ray itself tries for minutes where nothing listens.
_PATIENCE_S = 5.0
#: Workers that a task may outlive: one that kills each of them would do so for ever.
_RETRIES = 3

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class ClusterError(PocketError):
    """No Ray cluster answers, another one does, or a task ends the workers that take it on."""


def on_ray(
    work: Callable[[_Job, Path], _Result],
    job: _Job,
    folders: Sequence[Path],
    *,
    address: str,
    threads: int = 1,
) -> Iterator[tuple[Path, _Result]]:
    """`work(job, folder)` for every folder, with its folder, in the order in which they finish.

    At most two tasks a worker are under way, so that memory does not grow with their number.

    Args:
        work: a function that the workers can import, or one that pickles.
        job: what all tasks share; sent once to each machine.
        folders: that the workers can read under these paths; relative ones start where this
            process is.
        address: of a running cluster (`host:port`), or `local`. A session that is open in this
            process already is used for `local` and for its own address, and left open.
        threads: that a task uses; so many cores are set aside for it.

    Raises:
        Unavailable: Ray is not installed.
        ClusterError: no cluster answers at the address, a session of another one is open, or the
            workers that got a task died.
        PocketError: as `work` raised it.
    """
    with _connected(address) as ray:
        cores = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        wanted = max(1, min(threads, int(max(cores))))  # more than a machine has would never start
        run = ray.remote(max_retries=_RETRIES, num_cpus=wanted)(_task)
        shared = ray.put((work, job, os.getcwd()))
        tasks = ((run.remote(shared, folder), folder) for folder in folders)
        yield from _results(ray, tasks, 2 * max(1, int(sum(cores)) // wanted))


def _task(shared: tuple[Callable[[Any, Path], Any], Any, str], folder: Path) -> Any:
    """Runs in a worker."""
    work, job, home = shared
    with contextlib.suppress(OSError):  # another machine may lack it; whole paths do without
        os.chdir(home)
    return work(job, folder)


def _results(
    ray: Any, tasks: Iterator[tuple[Any, Path]], window: int
) -> Iterator[tuple[Path, Any]]:
    """Results as they come; a worker's error is raised as itself."""
    waiting = dict(islice(tasks, window))
    while waiting:
        (done, *_), _ = ray.wait(list(waiting))
        folder = waiting.pop(done)
        waiting.update(islice(tasks, 1))
        try:
            yield folder, ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PocketError):
                raise error.cause from None
            raise
        except (
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.NodeDiedError,
            ray.exceptions.OutOfMemoryError,
        ) as error:
            wants = isinstance(error, ray.exceptions.OutOfMemoryError)
            why = "Ray ended its worker for want of memory" if wants else "its workers died of it"
            raise ClusterError(
                f"{folder}: {why}",
                expected="brackets and artifacts that one process can stand",
                fix="run without --ray to see why, or take the bracket out",
            ) from error


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        import ray
    except ImportError as error:
        raise Unavailable(
            "Ray is not installed", install="pip install 'pockethdr[scale]'"
        ) from error
    if ray.is_initialized():  # the caller's own, and theirs to end
        if address not in (LOCAL, ray.get_runtime_context().gcs_address):
            raise ClusterError(
                f"a session of {ray.get_runtime_context().gcs_address} is open, not of {address}",
                expected=f"`{LOCAL}`, or its address",
                fix="ray.shutdown() before, or leave the address to it",
            )
        yield ray
        return
    try:
        _knock(address)
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises bare ones, too
        ray.shutdown()
        raise ClusterError(
            f"no Ray cluster answers at {address}: {error}",
            expected=f"`{LOCAL}`, or the host:port of a running cluster",
            fix="start one with `ray start --head`, which prints its address",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where an address is a host and a port, and nothing listens there."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE_S).close()
