"""What several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_brackets() -> Path:
    """The folder of test brackets beside the repository (not part of it)."""
    folder = Path(os.environ.get("POCKETHDR_SHARED", _REPOSITORY.parent / "shared" / "brackets"))
    if not folder.is_dir():
        pytest.skip(f"no shared test brackets at {folder} (set POCKETHDR_SHARED)")
    return folder
