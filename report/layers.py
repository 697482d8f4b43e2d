"""Layer by layer, how far a real artifact is from the float program it was made of.

Both run on the same tiles of real brackets. The float program has the artifact's own weights (the
tuned ones, where INT8 has been tuned), so that what is seen is what rounding did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from pockethdr.brackets.bracket import Bracket
from pockethdr.brackets.read import find_brackets, read_bracket
from pockethdr.calibration.patches import Patches, chosen_patches
from pockethdr.errors import ArtifactError, WeightsError
from pockethdr.export.context import split
from pockethdr.export.manifest import Artifact, Manifest, read_manifest
from pockethdr.export.placement import FUSED, is_move
from pockethdr.export.program import kind_of, module_of
from pockethdr.export.static import static_program
from pockethdr.export.tuned import read_tuned, shipped_tuning
from pockethdr.models.load import Loaded, load_model
from pockethdr.models.trust import check_trusted
from pockethdr.report.matching import Match, matched
from pockethdr.report.reference import exported_weights
from pockethdr.runtime.agreement import IDENTICAL_DB
from pockethdr.runtime.artifact import deployed
from pockethdr.runtime.context import Context
from pockethdr.runtime.feed import Feed
from pockethdr.runtime.runner import Array
from pockethdr.runtime.taps import Tap, Taps, open_taps
from pockethdr.runtime.tiling import Span, Tile


@dataclass(frozen=True)
class Layer:
    """One tensor of the artifact against its value in the program.

    Attributes:
        node: of the program.
        module: the network's module that made it; empty for operations of the outermost forward.
        op: the artifact's operation.
        precision: `int8` or `float`.
        own_db: signal over error (SQNR) of this layer alone: of the tensor against the float
            operation on the artifact's own inputs.
        sqnr_db: SQNR with the errors of all layers before it.
        cosine: between tensor and value, errors of earlier layers included.
        range_used: share of the 256 codes that occur between the lowest and the highest; None
            for float.
        clipped: share of the program's values outside the range of the codes; None for float.
    """

    node: str
    module: str
    op: str
    precision: str
    own_db: float
    sqnr_db: float
    cosine: float
    range_used: float | None
    clipped: float | None


@dataclass(frozen=True)
class Layers:
    """All layers in order of execution; `unmatched` counts tensors without a counterpart."""

    model: str
    target: str
    precision: str
    runtime: str
    tiles: int
    unmatched: int
    layers: tuple[Layer, ...]

    @property
    def worst_first(self) -> list[Layer]:
        """By what each layer itself adds: errors of earlier ones would accuse those behind."""
        return sorted(self.layers, key=lambda layer: layer.own_db)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def debug(
    out: Path,
    brackets: Sequence[Path],
    *,
    target: str,
    precision: str = "int8",
    patches: int = 3,
    tuned: Path | None = None,
) -> Layers:
    """Compare the artifact of `out` with its float program, tensor by tensor.

    Args:
        out: the folder that `pockethdr export` wrote.
        brackets: bracket folders, or folders of them.
        patches: tiles of a bracket, the brightest and the one that moves most first.
        tuned: the file of `pockethdr finetune` that the export was given, if it was given one.

    Raises:
        ArtifactError: there is no such artifact, it does not let itself be looked into, or only the
            manifest vouches for its network, see `models.trust`.
        WeightsError: the tuned weights are not at hand.
        Unavailable: its runtime is not installed.
    """
    manifest = read_manifest(out)
    artifact = _artifact(manifest, target, precision)
    path = deployed(out / str(artifact.file)).path
    program = float_program(out, manifest, precision, tuned)
    taps = open_taps(path, target)
    scores: list[_Score] | None = None
    tiles = 0
    for frames in tiles_of(brackets, manifest, program, patches):
        ours, values = taps.run(frames), _values(program.tile, frames)
        if scores is None:
            scores = _scores(taps, ours, values)
        aligned = {score.node: score.match.aligned(ours[score.match.tap]) for score in scores}
        alone = _values(program.tile, frames, aligned)
        for score in scores:
            score.add(aligned[score.node], values[score.node], alone[score.node])
        tiles += 1
    assert scores is not None
    layers = _layers(scores)
    unmatched = len(taps.taps) - len(layers)
    return Layers(manifest.model, target, precision, taps.runtime, tiles, unmatched, layers)


def _artifact(manifest: Manifest, target: str, precision: str) -> Artifact:
    built = [a for a in manifest.artifacts if a.file is not None]
    for artifact in built:
        if (artifact.target, artifact.precision) == (target, precision):
            return artifact
    raise ArtifactError(
        f"this export has no {target} {precision} artifact",
        expected="one of " + ", ".join(f"{a.target} {a.precision}" for a in built),
        fix="export it, or choose another --target or --precision",
    )


@dataclass(frozen=True)
class Program:
    """The float program of the tiles, and of what runs once a shot (or None)."""

    tile: fx.GraphModule
    context: fx.GraphModule | None


def float_program(
    out: Path, manifest: Manifest, precision: str, tuned: Path | None = None
) -> Program:
    """What the artifacts of a precision compute, in float; see `debug`."""
    check_trusted(manifest.spec, out)
    weights = exported_weights(out, manifest)
    loaded = load_model(manifest.spec, domain=manifest.domain, weights=weights)
    program = static_program(loaded, size=manifest.size, allow_dynamic=True).program
    if precision == "int8" and manifest.tuned is not None:
        program = _tuned(loaded, program, manifest.tuned, tuned)
    if manifest.context is None:
        return Program(program, None)
    first, tile = split(program, manifest.context)
    return Program(tile, first)


def _tuned(
    loaded: Loaded, program: fx.GraphModule, record: dict[str, Any], file: Path | None
) -> fx.GraphModule:
    found = shipped_tuning(loaded) if file is None else read_tuned(file)
    if found is None or found.to_json()["sha256"] != record["sha256"]:
        raise WeightsError(
            f"the INT8 artifacts hold the tuned weights of {record['file']}, which are not at hand",
            expected=f"the file of sha256 {record['sha256'][:12]}…",
            fix="name it with --tuned FILE",
        )
    return found.program(program)


def tiles_of(
    brackets: Sequence[Path], manifest: Manifest, program: Program, patches: int
) -> Iterator[list[Array]]:
    """An artifact's inputs for some tiles of each bracket: frames, and context where needed."""
    for root in brackets:
        for folder in find_brackets(root, domain=manifest.domain):
            bracket = read_bracket(folder, domain=manifest.domain, stream=True)
            found = Patches(bracket, manifest.size)
            seen = _context(bracket, manifest, program)
            for place in chosen_patches(found, patches, 0):
                rows, columns = (
                    Span(start, length, (start, start + length))
                    for start, length in zip(place, manifest.size, strict=True)
                )
                known = [] if seen is None else [seen.at(Tile(rows, columns))]
                yield [*found.at(place), *known]


def _context(bracket: Bracket, manifest: Manifest, program: Program) -> Context | None:
    if manifest.context is None or program.context is None:
        return None
    feed = Feed(bracket)
    with torch.no_grad():
        thumbnails = [torch.from_numpy(feed.thumbnail(i, manifest.size)) for i in range(3)]
        values = program.context(*thumbnails).numpy()
    return Context(values, manifest.context, bracket.size())


def _values(
    program: fx.GraphModule,
    frames: Sequence[Array],
    replaced: Mapping[fx.Node, np.ndarray] | None = None,
) -> dict[fx.Node, np.ndarray]:
    """Every input and result, in order; readers of those `replaced` see that instead."""
    found: dict[fx.Node, np.ndarray] = {}
    instead = replaced or {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.op in ("placeholder", "call_function") and isinstance(value, Tensor):
                found[n] = value.numpy()
            if n in instead:
                return torch.from_numpy(np.ascontiguousarray(instead[n]))
            return value

    with torch.no_grad():
        Recorder(program).run(*(torch.from_numpy(frame) for frame in frames))
    return found


def _scores(taps: Taps, ours: Sequence[Array], values: dict[fx.Node, np.ndarray]) -> list[_Score]:
    nodes = list(values)
    place = {node: index for index, node in enumerate(nodes)}
    # Moves change no value: a tensor that was only moved would be listed twice.
    moved = {place[node] for node in nodes if node.op == "placeholder" or is_move(node)}
    # What a kernel clamps at once is no tensor of the artifact.
    hidden_by = {
        place[node.all_input_nodes[0]]: place[node]
        for node in nodes
        if kind_of(node) in FUSED and node.all_input_nodes[0] in place
    }
    pairs = matched(
        ours,
        [values[node] for node in nodes],
        channels_last=taps.channels_last,
        hidden_by=hidden_by,
        moved=moved,
    )
    return [_Score(taps.taps[pair.tap], pair, nodes[pair.node]) for pair in pairs]


class _Score:
    """Sums over tiles of one tensor against its value."""

    def __init__(self, tap: Tap, match: Match, node: fx.Node) -> None:
        self.tap, self.match, self.node = tap, match, node
        self.signal = self.noise = self.own_noise = self.power = self.product = 0.0
        self.count = self.outside = 0
        self.low, self.high = math.inf, -math.inf

    def add(self, tensor: np.ndarray, value: np.ndarray, alone: np.ndarray) -> None:
        """Count one tile: the artifact's tensor, the program's value, and that of this node on the
        artifact's inputs."""
        found, wanted, own = (np.ravel(x).astype(np.float64) for x in (tensor, value, alone))
        self.signal += float(wanted @ wanted)
        self.power += float(found @ found)
        self.product += float(found @ wanted)
        self.noise += float(np.square(found - wanted).sum())
        self.own_noise += float(np.square(found - own).sum())
        self.count += wanted.size
        self.low, self.high = min(self.low, float(found.min())), max(self.high, float(found.max()))
        if self.tap.code is not None:
            scale, zero = self.tap.code
            # Half a step beyond the last code still rounds to it.
            low, high = (scale * (end - zero) for end in (-128.5, 127.5))
            self.outside += int(np.count_nonzero((wanted < low) | (wanted > high)))

    def over(self, noise: float) -> float:
        """The signal over `noise`, in dB."""
        if noise == 0:
            return IDENTICAL_DB
        return min(IDENTICAL_DB, 10 * math.log10(max(self.signal, 1e-30) / noise))

    @property
    def cosine(self) -> float:
        norm = math.sqrt(self.signal * self.power)
        return self.product / norm if norm else float(self.signal == self.power)


def _layers(scores: Sequence[_Score]) -> tuple[Layer, ...]:
    by_node = {score.node: score for score in scores}
    return tuple(_layer(score, by_node) for score in scores)


def _layer(score: _Score, by_node: dict[fx.Node, _Score]) -> Layer:
    code = score.tap.code
    return Layer(
        node=score.node.name,
        module=_module(score.node, by_node),
        op=score.tap.op,
        precision="float" if code is None else "int8",
        own_db=score.over(score.own_noise),
        sqnr_db=score.over(score.noise),
        cosine=score.cosine,
        range_used=None if code is None else min(1.0, (score.high - score.low) / (255 * code[0])),
        clipped=None if code is None else score.outside / score.count,
    )


def _module(node: fx.Node, by_node: dict[fx.Node, _Score]) -> str:
    """Of the operation whose result a fused activation clamps, rather than of the activation."""
    made_by = node.all_input_nodes[0] if kind_of(node) in FUSED else node
    return module_of(node if made_by in by_node else made_by)
