"""Where the Android build reads and writes."""

from __future__ import annotations

import os
from pathlib import Path

ANDROID = Path(__file__).resolve().parents[1]
REPOSITORY = ANDROID.parent
CI = ANDROID / "ci"
CORE = ANDROID / "core/src"
APP = ANDROID / "app/src"
OUT = Path(os.environ.get("POCKETHDR_ANDROID_OUT", REPOSITORY / "out/android")).resolve()
TOOLS = OUT / "tools"
#: Brackets that are not part of the repository; may be absent.
SHARED = Path(os.environ.get("POCKETHDR_SHARED", REPOSITORY.parent / "shared/brackets"))
