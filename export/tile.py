"""How large the fixed input of an artifact must be to serve as a tile. Without torch.

A tile owns what lies at least a halo away from its borders; one that owns nothing there can run
frames of its own size and never a larger one, so no such artifact is exported.
"""

from __future__ import annotations

from pockethdr.errors import PocketError


def whole_blocks(pixels: int, multiple: int) -> int:
    """Filled up to blocks of `multiple`, which a network that strides by it sees as one: what it
    needs beyond a pixel is counted from the end of the pixel's block."""
    return -(-pixels // multiple) * multiple


def least_tile(halo: int, multiple: int) -> int:
    """The shortest side, in pixels of the network's grid, of which something is left to own.

    Args:
        halo: pixels that a tile must see beyond a block of `multiple` that it owns, on each side.
        multiple: tiles begin at multiples of this, and are as long.
    """
    return 2 * whole_blocks(halo, multiple) + multiple


def check_tile(name: str, size: tuple[int, int], halo: int, multiple: int) -> None:
    """Refuse to export `name` at a size of which no tile can be made.

    Raises:
        PocketError: a side of `size` (H, W) is below `least_tile`, or no multiple.
    """
    if any(side % multiple for side in size):
        sides = "x".join(str(whole_blocks(side, multiple)) for side in size)
        raise PocketError(
            f"--size {size[0]}x{size[1]} cuts through blocks of {multiple}x{multiple} pixels, "
            f"each of which {name} sees as one",
            expected=f"multiples of {multiple}",
            fix=f"pockethdr export {name} … --size {sides}",
        )
    least = least_tile(halo, multiple)
    if min(size) < least:
        sides = "x".join(str(max(side, least)) for side in size)
        raise PocketError(
            f"--size {size[0]}x{size[1]} is too small for {name}: each pixel sees {halo} further on"
            " every side, so that a tile of this size would own none",
            expected=f"at least {least}x{least}",
            fix=f"pockethdr export {name} … --size {sides}",
        )
