"""The operators of Core ML's ML programs (MIL), evaluated with torch.

The one part of this room that imports torch at its top: `mil` loads it when a package is run.
Semantics follow the MIL operator definitions of coremltools (iOS15 to iOS18).
"""

from __future__ import annotations

from pockethdr.runtime import mil_layers, mil_pointwise, mil_reductions, mil_shapes
from pockethdr.runtime.mil_arguments import OPERATORS, Arguments

__all__ = ["OPERATORS", "Arguments", "mil_layers", "mil_pointwise", "mil_reductions", "mil_shapes"]
