"""What all networks of the zoo, and their switches, have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor, nn

from pockethdr.brackets.bracket import CHANNELS, OUTPUT_CHANNELS
from pockethdr.errors import ModelError

LINEAR, SQRT = "linear", "sqrt"


@dataclass(frozen=True)
class NetworkConfig:
    """Base of each network's switches: plain values, so that a weights file can hold them.

    Attributes:
        domain: raw (8 channels a frame → 4) or rgb (6 → 3).
        input_coding: `sqrt` lets the network see the square root of the frames, `linear` the
            frames. Photon noise of variance S·x has the variance S/4 on √x, as strong in the dark
            as in the light (Anscombe 1948).
    """

    domain: str = "raw"
    input_coding: str = LINEAR

    def __post_init__(self) -> None:
        self.check(domain=tuple(CHANNELS), input_coding=(LINEAR, SQRT))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Raises ModelError on a name that is not a field."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ModelError(f"{cls.__name__} has no field {', '.join(unknown)}")
        return cls(**values)

    def check(self, **choices: tuple[object, ...]) -> None:
        """Raises ModelError when a field is none of its choices."""
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ModelError(
                    f"{type(self).__name__}.{name} = {getattr(self, name)!r}",
                    expected=", ".join(map(repr, allowed)),
                )

    @property
    def planes(self) -> int:
        """Channels of a frame."""
        return CHANNELS[self.domain]

    @property
    def output_planes(self) -> int:
        """Channels of the HDR image."""
        return OUTPUT_CHANNELS[self.domain]

    @property
    def multiple(self) -> int:
        """Height and width of the frames must be multiples of this."""
        return 1

    @property
    def radius(self) -> int | None:
        """How far in pixels an output sees beyond its block of `multiple`: the halo of a tile.

        None when every output depends on every input.
        """
        raise NotImplementedError


class Network(nn.Module):
    """Short, mid, long, each N×C×H×W (C = 8 raw, 6 rgb) → HDR N×4×H×W (raw) or N×3×H×W (rgb).

    The HDR image is linear in [0, 1]; 1.0 = clip level of the shortest frame.
    """

    config: NetworkConfig

    def coded(self, frame: Tensor) -> Tensor:
        """A frame, in [0, 1], as the first convolution sees it."""
        return frame.sqrt() if self.config.input_coding == SQRT else frame
