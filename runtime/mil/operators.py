"""The operators of Core ML's ML programs (MIL), evaluated with torch.

Like its neighbours it imports torch at its top: `program` loads it when a package is run.
Semantics follow the MIL operator definitions of coremltools (iOS15 to iOS18).
"""

from __future__ import annotations

from pockethdr.runtime.mil import layers, pointwise, reductions, shapes
from pockethdr.runtime.mil.arguments import OPERATORS, Arguments

__all__ = ["OPERATORS", "Arguments", "layers", "pointwise", "reductions", "shapes"]
