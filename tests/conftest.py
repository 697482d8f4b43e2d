"""What several test files share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pockethdr.runtime.artifact import Deployed

_REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def _nothing_named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests export is trusted in this run of them alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_brackets() -> Path:
    """The folder of test brackets beside the repository (not part of it)."""
    folder = Path(os.environ.get("POCKETHDR_SHARED", _REPOSITORY.parent / "shared" / "brackets"))
    if not folder.is_dir():
        pytest.skip(f"no shared test brackets at {folder} (set POCKETHDR_SHARED)")
    return folder


@pytest.fixture(scope="session")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Deployed:
    """A TFLite artifact that takes a context, see `context_toy`."""
    from context_toy import exported

    pytest.importorskip("litert_torch")
    return exported(tmp_path_factory.mktemp("seeing"))


@pytest.fixture
def prove() -> Callable[..., Any]:
    """Apply rewrites to a module and check every proof and the output, on two random inputs.

    The proof of the whole output is checked too, but not returned among those of the places.

    `prove(module, rewrite, ..., shape=(1, 4, 8, 8))` returns the `Rewritten`.
    """
    import torch

    from pockethdr.export.rewrite import PROOF_TOLERANCE, apply_rewrites
    from pockethdr.export.trace import traced

    def apply(module: Any, *rewrites: Any, shape: tuple[int, ...] = (1, 4, 8, 8)) -> Any:
        frames = [(torch.randn(shape),) for _ in range(2)]
        program = traced(module.eval(), frames[0])
        done = apply_rewrites(program, rewrites, frames)
        assert all(proof.max_relative_error <= PROOF_TOLERANCE for proof in done.proofs)
        done.proofs = [proof for proof in done.proofs if proof.rewrite != "all"]
        for inputs in frames:
            torch.testing.assert_close(done.program(*inputs), module(*inputs), rtol=1e-3, atol=1e-4)
        return done

    return apply
