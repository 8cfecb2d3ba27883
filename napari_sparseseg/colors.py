"""Colours of the token maps, "#rrggbbaa"; they lie on grey anatomy, below coloured contours.

One place for the layers of the plugin and for the pictures of a document.
"""

from __future__ import annotations

import numpy as np

_TISSUE = 160  # grey value on which a legend shows colours that are not opaque

# The earlier a token left, the darker and denser its cover; kept tokens stay almost clear. So the
# contours of the segmentation, which use all hues, can be read on top of it. From the first stage
# to the last.
_LEFT = ("#0b0924d0", "#641a80b0", "#d3436e90")
KEPT = "#00c89628"
SOME_BLOCKS = "#f5a84270"
GOES_ON = "#35b5ff38"
CLEAR = "#00000000"
# Depth has an order, so it gets a ramp whose lightness grows evenly (viridis).
_SHALLOW_TO_DEEP = ("#44015480", "#3b528b80", "#21918c80", "#5ec96280", "#fde72580")
# Counts from 0: nothing to see, then ever hotter.
NEVER = "#2b3a6758"
_ONCE_TO_OFTEN = ("#ffe08a98", "#f77f00a8", "#b3001bb8")
SHADES = "inferno"
"""Colormap of scores from 0 to 1, by the name that napari and matplotlib share."""
SHADES_OPACITY = 0.5
CHOSEN = "#00e5ffb0"
"""The token that was clicked on; no other map has this cyan."""
DIFFERENCES = ("#56b4e9", "#d55e00", "#f0e442")
"""Voxels that were added, lost and changed: Okabe and Ito's, which the colour-blind tell apart."""


def left(stages: int) -> list[str]:
    """Return a colour for each stage at which tokens leave."""
    return _ramp(_LEFT, stages)


def depths(blocks: int) -> list[str]:
    """Return a colour for each number of blocks from 0 to ``blocks``."""
    return _ramp(_SHALLOW_TO_DEEP, blocks + 1)


def counts(largest: int) -> list[str]:
    """Return a colour for each count from 0 to ``largest``."""
    return [NEVER, *_ramp(_ONCE_TO_OFTEN, largest)]


def shades() -> list[str]:
    """Return the 256 colours of scores from 0 to 1, with their opacity."""
    from matplotlib import colormaps

    opaque = colormaps[SHADES](np.arange(256), bytes=True)[:, :3]
    alpha = round(255 * SHADES_OPACITY)
    return [f"#{bytes(color).hex()}{alpha:02x}" for color in opaque]


def over_grey(color: str) -> str:
    """Return what a colour "#rrggbb" or "#rrggbbaa" looks like on tissue, as "#rrggbb"."""
    red, green, blue, alpha = bytes.fromhex(color[1:].ljust(8, "f"))
    mixed = (round((c * alpha + _TISSUE * (255 - alpha)) / 255) for c in (red, green, blue))
    return f"#{bytes(mixed).hex()}"


def _ramp(anchors: tuple[str, ...], number: int) -> list[str]:
    """Spread some colours evenly from the first anchor to the last."""
    channels = np.array([list(bytes.fromhex(anchor[1:])) for anchor in anchors], dtype=float)
    at = np.linspace(0, len(anchors) - 1, number)
    mixed = np.stack([np.interp(at, range(len(anchors)), c) for c in channels.T], axis=1)
    return [f"#{bytes(color.round().astype(np.uint8)).hex()}" for color in mixed]
