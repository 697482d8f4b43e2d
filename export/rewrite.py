"""What a graph rewrite is, and how one is applied and proved.

A rewrite is one file with three small steps: `pattern` yields the nodes it might replace, `check`
returns a reason when it refuses one, `rewrite` builds the replacement. `apply_rewrites` runs them
and proves each: the value at the place, before and after, in float64, on the given frames.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from pockethdr.errors import PocketError
from pockethdr.export.program import (
    drop_unused_constants,
    module_of,
    op_name,
    refresh_meta,
    source_of,
    with_ancestors,
)
from pockethdr.models.precision import InFloat64

#: A proof holds when the largest difference over the largest magnitude at its place is below this.
PROOF_TOLERANCE = 1e-10
# Of what the place reads: a mean of what has no mean is zero, and differs from it by roundings.
_LEAST_SCALE = 1e-4


@dataclass(frozen=True)
class Refusal:
    """Why a place was left as it is."""

    place: str
    op: str
    source: str
    reason: str
    rewrite: str = ""


@dataclass(frozen=True)
class Proof:
    """The value at a place before and after its rewrite, compared in float64."""

    rewrite: str
    place: str
    module: str
    source: str
    max_relative_error: float
    detail: str = ""

    def holds(self) -> bool:
        return self.max_relative_error <= PROOF_TOLERANCE


@dataclass(frozen=True)
class Replacement:
    """The node that takes over from the place, and one sentence for the manifest."""

    node: fx.Node
    detail: str = ""


class Rewrite(Protocol):
    """One exact re-expression of a graph."""

    name: str

    def pattern(self, program: fx.GraphModule) -> Iterable[fx.Node]:
        """The nodes that this rewrite is about, in the order in which they are to be rewritten."""

    def check(self, node: fx.Node, program: fx.GraphModule) -> str | None:
        """The reason to refuse `node`, or None when `rewrite` will succeed."""

    def rewrite(self, node: fx.Node, program: fx.GraphModule) -> Replacement:
        """Build the replacement, called with `node` as the insertion point.

        The uses of `node` are moved by the caller.
        """


@dataclass
class Rewritten:
    """A program after its rewrites, with the evidence."""

    program: fx.GraphModule
    proofs: list[Proof] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "rewrites": [asdict(proof) for proof in self.proofs],
            "refusals": [asdict(refusal) for refusal in self.refusals],
        }


class ProofError(PocketError):
    """A rewrite changed what the network computes: a bug of ours, never to be shipped."""


def apply_rewrites(
    program: fx.GraphModule,
    rewrites: Sequence[Rewrite],
    frames: Sequence[Sequence[Tensor]],
    *,
    each_place: bool = True,
) -> Rewritten:
    """Apply `rewrites` in order; prove each place, and the output of the whole.

    All happens in float64, so that composed constants are rounded only once, at the end.

    Args:
        program: a traced program; it is left untouched.
        rewrites: what to apply.
        frames: one or more inputs of the program, float32 N×C×H×W each; the proofs run on all.
        each_place: without it only the output is compared, and the places are merely named, with
            an error of NaN.

    Raises:
        ProofError: a value changed by more than `PROOF_TOLERANCE`.
    """
    untouched = copy.deepcopy(program).double()
    done = Rewritten(copy.deepcopy(untouched))
    precise = [tuple(frame.double() for frame in inputs) for inputs in frames]
    with InFloat64():
        refresh_meta(done.program, precise[0])
    for rewrite in rewrites:
        before = copy.deepcopy(done.program)
        with InFloat64():
            places = _apply_one(rewrite, done)
            if places:
                refresh_meta(done.program, precise[0])
        if places:
            tried = precise if each_place else []
            done.proofs += place_proofs(rewrite.name, before, done.program, places, tried)
    if done.proofs:
        require_proved(done.proofs)
        done.proofs.append(prove_output("all", untouched, done.program, frames))
    done.program.float()
    refresh_meta(done.program, frames[0])
    return done


def prove_output(
    name: str,
    before: nn.Module,
    after: nn.Module,
    frames: Sequence[Sequence[Tensor]],
    detail: str = "",
) -> Proof:
    """Compare the outputs of two float64 programs.

    Raises:
        ProofError: they differ by more than `PROOF_TOLERANCE`.
    """
    precise = [tuple(frame.double() for frame in inputs) for inputs in frames]
    with torch.no_grad(), InFloat64():
        error = max(relative_error(after(*inputs), before(*inputs)) for inputs in precise)
    proof = Proof(name, "output", "", "", error, detail)
    require_proved([proof])
    return proof


def require_proved(proofs: Sequence[Proof]) -> None:
    """Refuse proofs that do not hold; an error of NaN says that none was tried.

    Raises:
        ProofError: of the worst of them.
    """
    failed = [p for p in proofs if not math.isnan(p.max_relative_error) and not p.holds()]
    if failed:
        worst = max(failed, key=lambda proof: proof.max_relative_error)
        raise ProofError(
            f"rewrite `{worst.rewrite}` changed `{worst.place}` by {worst.max_relative_error:.1e}",
            expected=f"at most {PROOF_TOLERANCE:.0e} of its largest magnitude, in float64",
            fix="this is a defect of PocketHDR: please report the network that shows it",
        )


def _apply_one(rewrite: Rewrite, done: Rewritten) -> dict[str, tuple[fx.Node, Replacement]]:
    """Rewrite every place that passes its check; returns place name → (old node, new)."""
    graph, places = done.program.graph, {}
    for node in list(rewrite.pattern(done.program)):
        if node.graph is not graph or node not in graph.nodes:
            continue  # taken away by an earlier place of the same rewrite
        reason = rewrite.check(node, done.program)
        if reason is not None:
            done.refusals.append(
                Refusal(node.name, op_name(node), source_of(node), reason, rewrite.name)
            )
            continue
        with graph.inserting_before(node):
            replacement = rewrite.rewrite(node, done.program)
        replacement.node.meta.setdefault("nn_module_stack", node.meta.get("nn_module_stack"))
        replacement.node.meta.setdefault("stack_trace", node.meta.get("stack_trace"))
        places[node.name] = (node, replacement)
        node.replace_all_uses_with(replacement.node)
        graph.eliminate_dead_code()
    done.program.delete_all_unused_submodules()
    drop_unused_constants(done.program)
    done.program.recompile()
    return places


def place_proofs(
    name: str,
    before: fx.GraphModule,
    after: fx.GraphModule,
    places: dict[str, tuple[fx.Node, Replacement]],
    frames: Sequence[Sequence[Tensor]],
) -> list[Proof]:
    """The values of two float64 programs at the places that a rewrite changed, compared.

    Args:
        places: name → (node before, what took over); one that is gone again has no proof.
        frames: float64 inputs of both; without any the errors are NaN.
    """
    alive = {node.name for node in after.graph.nodes}
    pairs = {old: new.node.name for old, (_, new) in places.items() if new.node.name in alive}
    read = {n.name: _values_read(n) for n in before.graph.nodes if n.name in pairs}
    errors = dict.fromkeys(pairs, 0.0 if frames else math.nan)
    for inputs in frames:
        with InFloat64():
            old = captured(before, inputs, set(pairs).union(*read.values()))
            new = captured(after, inputs, set(pairs.values()))
        for place, replacement in pairs.items():
            least = _LEAST_SCALE * max((_magnitude(old[name]) for name in read[place]), default=0)
            error = relative_error(new[replacement], old[place], least)
            errors[place] = max(errors[place], error)
    return [
        Proof(name, place, module_of(node), source_of(node), errors[place], replacement.detail)
        for place, (node, replacement) in places.items()
        if place in errors
    ]


class _Capture(fx.Interpreter):
    """Runs what the values of some nodes depend on, and keeps these."""

    def __init__(self, program: fx.GraphModule, names: set[str]) -> None:
        super().__init__(program)
        self.names, self.values = names, dict[str, Tensor]()
        self.needed = with_ancestors(n for n in program.graph.nodes if n.name in names)

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "placeholder" and n not in self.needed:
            return None
        value = super().run_node(n)
        if n.name in self.names:
            self.values[n.name] = value
        return value


def captured(
    program: fx.GraphModule, frames: Sequence[Tensor], names: set[str]
) -> dict[str, Tensor]:
    """The values of the named nodes for `frames`."""
    capture = _Capture(program, names)
    with torch.no_grad():
        capture.run(*frames)
    return capture.values


def _values_read(node: fx.Node) -> set[str]:
    """Names of what a place computes from, constants left out."""
    return {source.name for source in node.all_input_nodes if source.op != "get_attr"}


def _magnitude(value: Any) -> float:
    """The largest finite absolute value of a tensor; 0 for what is none."""
    if not isinstance(value, Tensor) or not value.numel():
        return 0.0
    numbers = value.detach().double().abs()
    return float(numbers.masked_fill(~numbers.isfinite(), 0.0).max())


def relative_error(value: Tensor, expected: Tensor, least: float = 0.0) -> float:
    """Largest |difference| over the largest finite magnitude of `expected`, or over `least` where
    that is more.

    An infinite value, such as of a mask in front of a softmax, equals itself; NaN equals nothing.
    """
    if value.shape != expected.shape:
        return float("inf")
    value, expected = value.detach().double(), expected.detach().double()
    scale = max(_magnitude(expected), least, torch.finfo(torch.float64).tiny)
    error = float(torch.where(value == expected, 0.0, (value - expected).abs()).max()) / scale
    return float("inf") if math.isnan(error) else error
