"""Brackets in, calibration out: run the program on patches and count every tensor."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

import pockethdr
from pockethdr.brackets.bracket import CHANNELS, Bracket
from pockethdr.calibration.calibration import Calibration, CalibrationError, SeenBracket
from pockethdr.calibration.histogram import Histogram
from pockethdr.calibration.patches import Patches, chosen_patches
from pockethdr.errors import PocketError


def calibrate(
    program: fx.GraphModule,
    brackets: Iterable[Bracket | Path],
    *,
    seed: int,
    tile: tuple[int, int],
    patches_per_bracket: int = 16,
    read: Callable[[Path], Bracket] | None = None,
    graph_sha256: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Calibration:
    """Count every floating-point activation of `program` over patches of `brackets`.

    Of one bracket at a time a row of patches is held; beside it, memory is one patch through the
    program and one `Histogram` a tensor. PyTorch runs on one thread, since its sums differ with
    their number; `pockethdr.calibration.spread` uses more cores to the same bytes.

    Args:
        program: of core ATen operators, traced at 1×C×`tile`.
        brackets: folders, or brackets already read.
        seed: of the choice of patches; the choice in one bracket does not depend on the others.
        tile: (H, W) of a patch in pixels of the network's grid.
        patches_per_bracket: at most this many; see `pockethdr.calibration.patches`.
        read: how a folder becomes a bracket; default `pockethdr.brackets.read.read_bracket` with
            `stream=True`, so that its frames stay on disk.
        graph_sha256: of `program`; computed when not given.
        progress: called with the name of each bracket when it is done.

    Raises:
        CalibrationError: a bracket does not load, does not fit the program, makes a tensor NaN
            or infinite, or comes twice; or there is none. Nothing is left out in silence.
    """
    observer = Observer(program)
    seen = []
    with _one_thread():
        for item in brackets:
            bracket = _loaded(item, read)
            seen.append(_observe(observer, bracket, seed, tile, patches_per_bracket))
            if progress:
                progress(bracket.name)
    if not seen:
        raise CalibrationError("no bracket to calibrate on", fix="give a folder of brackets")
    return Calibration(
        graph_sha256 or program_sha256(program),
        seed,
        tile,
        patches_per_bracket,
        _versions(),
        tuple(seen),
        observer.counted(),
    )


def program_sha256(program: fx.GraphModule) -> str:
    """sha256 over the nodes (name, target, arguments) and constants of a program."""
    digest = hashlib.sha256()
    for node in program.graph.nodes:
        digest.update(f"{node.name}|{node.op}|{node.target}|{node.args}|{node.kwargs}\n".encode())
    constants = dict(program.state_dict())
    for node in program.graph.find_nodes(op="get_attr"):  # some are in no state
        constants.setdefault(str(node.target), attrgetter(str(node.target))(program))
    for name, value in sorted(constants.items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}|{array.dtype}|{tuple(array.shape)}\n".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """More threads sum in another order, which moves a count here and there."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Observer(fx.Interpreter):
    """Runs a program, counts activations, and frees each when its last user has run."""

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__(program, garbage_collect_values=True)
        self.tensors = {n.name: Histogram() for n in program.graph.nodes if _is_computed(n)}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.tensors and isinstance(value, Tensor) and value.is_floating_point():
            try:
                self.tensors[n.name].update(value)
            except ValueError as error:
                raise ValueError(f"tensor {n.name} {error}") from error
        return value

    def counted(self) -> dict[str, Histogram]:
        """Name of a node → its values so far, of all that had any."""
        return {name: histogram for name, histogram in self.tensors.items() if histogram.count}


def _is_computed(node: fx.Node) -> bool:
    return node.op in ("placeholder", "call_function")


def _loaded(item: Bracket | Path, read: Callable[[Path], Bracket] | None) -> Bracket:
    if isinstance(item, Bracket):
        return item
    if read is None:
        from pockethdr.brackets.read import read_bracket

        read = partial(read_bracket, stream=True)
    try:
        return read(item)
    except (PocketError, OSError, ValueError) as error:
        raise CalibrationError(
            f"calibration stopped: bracket {item.name} does not load\n{error}",
            fix="mend the bracket, or leave its folder out",
        ) from error


def _observe(
    observer: Observer, bracket: Bracket, seed: int, tile: tuple[int, int], count: int
) -> SeenBracket:
    patches = Patches(bracket, tile)
    hashes = bracket.sha256 or _hashes_of(bracket)
    places = chosen_patches(patches, count, _bracket_seed(seed, hashes))
    _check_channels(observer, bracket)
    try:
        for place in places:
            with torch.no_grad():
                observer.run(*map(torch.from_numpy, patches.at(place)))
    except ValueError as error:
        raise CalibrationError(
            f"calibration stopped at bracket {bracket.name}: {error}",
            fix="mask with a finite value, such as -100 in front of a softmax; divide by no zero",
        ) from error
    return SeenBracket(bracket.name, dict(hashes), tuple(bracket.ratios), tuple(places))


def _hashes_of(bracket: Bracket) -> dict[str, str]:
    """Identity of a bracket that was made in memory."""
    names = ("short", "mid", "long")
    return {
        name: hashlib.sha256(np.asarray(frame.pixels, np.float32).tobytes()).hexdigest()
        for name, frame in zip(names, bracket.frames, strict=True)
    }


def _bracket_seed(seed: int, hashes: dict[str, str]) -> int:
    text = "\n".join([str(seed), *sorted(hashes.values())])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _check_channels(observer: Observer, bracket: Bracket) -> None:
    first = next(node for node in observer.graph.nodes if node.op == "placeholder")
    channels = CHANNELS[bracket.domain]
    wanted = first.meta["val"].shape[1] if "val" in first.meta else channels
    if wanted != channels:
        raise CalibrationError(
            f"calibration stopped: bracket {bracket.name} is {bracket.domain}, "
            f"{channels} channels a frame",
            expected=f"{wanted} channels, as the network takes",
        )


def _versions() -> dict[str, str]:
    return {
        "numpy": np.__version__,
        "pockethdr": pockethdr.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
