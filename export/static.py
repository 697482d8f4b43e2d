"""From a loaded network to one static program: trace, rewrite, prove.

Tracing fixes the size of the frames, and proving every place in float64 at a phone's tile size
would cost more than the export itself. So each place is proved on small frames, on random values
and on a real bracket; the program of the wanted size then goes through the very same rewrites, and
its output is compared with that of the untouched network once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from pockethdr.brackets.bracket import Bracket
from pockethdr.errors import ModelError, RefusedError, first_line
from pockethdr.export.constants import is_deterministic
from pockethdr.export.lowrank import LowRank, dynamic_convolutions
from pockethdr.export.program import op_name, source_of
from pockethdr.export.rewrite import Proof, Refusal, Rewrite, Rewritten, apply_rewrites
from pockethdr.export.rewrites import (
    ConcatWrittenSlices,
    ExplicitPadding,
    RemoveIdentities,
    ShrinkFilled,
    WriteOutArithmetic,
    default_rewrites,
)
from pockethdr.export.trace import traced
from pockethdr.models.load import Loaded, example_frames
from pockethdr.models.network import Network

#: Places are proved at no more than this height and width.
PROOF_SIZE = 64

Frames = tuple[Tensor, Tensor, Tensor]


def static_program(
    loaded: Loaded,
    *,
    size: tuple[int, int],
    allow_dynamic: bool = False,
    bracket: Bracket | None = None,
) -> Rewritten:
    """The network as a program with constant weights, traced at `size`.

    Args:
        size: H, W of the network's grid.
        allow_dynamic: go on although a convolution keeps a run-time kernel.
        bracket: a real bracket to prove on, beside random frames.

    Raises:
        ModelError: the network does not take frames of `size`.
        RefusedError: a dynamic operation could not be made static, or the network draws at random.
        ProofError: a rewrite changed a value.
    """
    done = _rewritten(loaded, size, standard_rewrites(), bracket)
    stuck = {node.name for node in dynamic_convolutions(done.program)}
    if stuck and not allow_dynamic:
        raise _refused(loaded.spec, [r for r in done.refusals if r.place in stuck])
    return done


def standard_rewrites() -> list[Rewrite]:
    """All that a program goes through, in order.

    First what is written in short is written out, so that the algebra of `LowRank` sees it; then
    dynamic convolutions become static; then `default_rewrites` lays the result out for runtimes.
    """
    return [
        ExplicitPadding(),
        RemoveIdentities(),
        WriteOutArithmetic(),
        ConcatWrittenSlices(),
        ShrinkFilled(),
        LowRank(),
        *default_rewrites(),
    ]


def _rewritten(
    loaded: Loaded, size: tuple[int, int], rewrites: Sequence[Rewrite], bracket: Bracket | None
) -> Rewritten:
    small = (min(size[0], PROOF_SIZE), min(size[1], PROOF_SIZE))
    proved = apply_rewrites(
        _traced(loaded, small), rewrites, proof_frames(loaded.domain, small, bracket)
    )
    if small == size:
        return proved
    untouched = _traced(loaded, size)
    frames = proof_frames(loaded.domain, size, bracket)[-1:]
    done = apply_rewrites(untouched, rewrites, frames, each_place=False)
    if _places(done.proofs) != _places(proved.proofs):  # its graph depends on the size
        return apply_rewrites(untouched, rewrites, frames)
    return replace(done, proofs=[*proved.proofs, *done.proofs[-1:]])


def _places(proofs: Sequence[Proof]) -> list[tuple[str, str]]:
    return [(proof.rewrite, proof.place) for proof in proofs]


def _traced(loaded: Loaded, size: tuple[int, int]) -> fx.GraphModule:
    frames = example_frames(loaded.domain, *size)
    try:
        with torch.no_grad():
            output = loaded.module(*frames)
    except Exception as error:  # an assertion about the size, whatever its type, is a user's
        raise _wrong_size(loaded, size, first_line(error)) from error
    if tuple(output.shape[2:]) != size:
        raise _wrong_size(loaded, size, f"it returned {tuple(output.shape)}")
    program = traced(loaded.module, frames)
    _refuse_chance(loaded.spec, program, frames)
    return program


def _refuse_chance(spec: str, program: fx.GraphModule, frames: Frames) -> None:
    """Of a network that draws random values nothing can be proved."""
    suspects = [node for node in program.graph.nodes if not is_deterministic(node)]
    if not suspects:
        return
    with torch.no_grad():
        first, second = program(*frames), program(*frames)
    if not torch.equal(first, second):
        found = [Refusal(n.name, op_name(n), source_of(n), "may draw at random") for n in suspects]
        raise RefusedError(
            f"{spec} returns something else each time it sees the same frames:\n{_table(found)}",
            expected="a network without chance",
            fix="draw these values once, and keep them as a parameter or buffer",
        )


def _wrong_size(loaded: Loaded, size: tuple[int, int], why: str) -> ModelError:
    return ModelError(
        f"{loaded.spec} does not take frames of {size[0]}x{size[1]}: {why}",
        expected=f"a size that is a multiple of {size_multiple(loaded.module, loaded.domain)}",
        fix="choose another --size",
    )


def proof_frames(domain: str, size: tuple[int, int], bracket: Bracket | None) -> list[Frames]:
    """Seeded random frames and, when there is one that is large enough, the centre of a bracket."""
    frames = [example_frames(domain, *size, seed=1)]
    if bracket is not None and all(a >= b for a, b in zip(bracket.size(), size, strict=True)):
        top, left = ((a - b) // 2 for a, b in zip(bracket.size(), size, strict=True))
        short, mid, long = (
            torch.from_numpy(x[..., left : left + size[1]].copy())
            for x in bracket.inputs(slice(top, top + size[0]))
        )
        frames.append((short, mid, long))
    return frames


def size_multiple(module: nn.Module, domain: str) -> int:
    """The smallest power of two of which H and W must be multiples; the zoo's networks know it.

    Raises:
        ModelError: there is none up to 64.
    """
    if isinstance(module, Network):
        return module.config.multiple
    said = ""
    for multiple in (1, 2, 4, 8, 16, 32, 64):
        side = 64 + multiple
        try:
            with torch.no_grad():
                output = module(*example_frames(domain, side, side))
        except Exception as error:  # networks refuse a size in many ways
            said = f": {first_line(error)}"
            continue
        if tuple(output.shape[2:]) == (side, side):
            return multiple
    raise ModelError(
        f"the network takes no frames of 65 to 128 pixels{said}",
        expected="an image as large as the frames, for any multiple of a power of two up to 64",
        fix="let forward take such sizes",
    )


def _refused(spec: str, refusals: Sequence[Refusal]) -> RefusedError:
    return RefusedError(
        f"{spec} has dynamic operations that cannot be made static:\n{_table(refusals)}",
        expected="kernels that are sums of constants times few run-time values",
        fix="rewrite these lines of the network, or export as it is with --allow-dynamic",
    )


def _table(refusals: Sequence[Refusal]) -> str:
    return "\n".join(f"  {r.place:16} {r.op:14} {r.source:24} {r.reason}" for r in refusals)
