"""Lines from a token to those that it attends to: which, and as a layer of the viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg import colors
from napari_sparseseg.plugin.geometry import transform_of
from napari_sparseseg.plugin.inspector.overlay import Overlay
from napari_sparseseg.plugin.layers import TOKENS
from napari_sparseseg.tokens import TokenTrace

if TYPE_CHECKING:
    from napari.layers import Labels, Vectors

ROLE = "attention"
MOST = 60
"""Lines at most: more of them cannot be told apart."""

_WIDTH = 0.06  # tokens
_FAINTEST = 0.25  # opacity of a line towards no heads at all; at one, all heads kept it


@dataclass(frozen=True, eq=False)
class Attended:
    """The tokens that a token attends to.

    Attributes
    ----------
    tokens : ndarray of int
        ``(n,)`` places in the flattened token grid; the strongest first, of equals the nearest.
    shares : ndarray of float
        ``(n,)`` share of the heads that kept the dependency, above 0.
    """

    tokens: NDArray[np.intp]
    shares: NDArray[np.float32]


def attended(trace: TokenTrace, token: int, most: int = MOST) -> Attended:
    """List the tokens, other than itself, that a token attends to.

    Parameters
    ----------
    trace : TokenTrace
        The trace.
    token : int
        Place in the flattened token grid.
    most : int
        How many at most.
    """
    known = trace.attended(token)
    if known is None:
        return Attended(np.empty(0, np.intp), np.empty(0, np.float32))
    shares = np.nan_to_num(known.ravel())
    shares[token] = 0
    others = np.flatnonzero(shares)
    places = np.stack(np.unravel_index(others, trace.grid.shape), axis=1)
    away = places - np.array(np.unravel_index(token, trace.grid.shape))
    distance = np.linalg.norm(away @ trace.grid.affine[:3, :3].T, axis=1)
    chosen = others[np.lexsort((distance, -shares[others]))][:most]
    return Attended(chosen, shares[chosen])


class AttentionLines(Overlay):
    """The layer of lines from a token to those that it attends to.

    Every line begins at the token that is attended to, so that a slice shows the lines of the
    tokens in it; in 3-D all are there.
    """

    def show(self, tokens: Labels, found: Attended, token: int) -> None:
        """Show the lines of a token, or none if it attends to nothing.

        Parameters
        ----------
        tokens : Labels
            The layer of the tokens, with their numbers from 1.
        found : Attended
            What it attends to.
        token : int
            Its place in the flattened token grid.
        """
        if not len(found.tokens):
            self.remove()
            return
        where, shades = _places(tokens), _shades(found.shares)
        start = where[found.tokens]
        lines = np.stack([start, where[token] - start], axis=1)
        if self.layer is None:
            self.add(_lines(lines, shades, tokens), tokens, ROLE)
        else:  # much faster than a new one
            self.layer.data, self.layer.edge_color = lines, shades


def _lines(lines: NDArray[np.intp], shades: NDArray[np.float32], tokens: Labels) -> Vectors:
    from napari.layers import Vectors

    return Vectors(
        lines,
        name=tokens.name.removesuffix(TOKENS) + ROLE,
        edge_width=_WIDTH,
        edge_color=shades,
        vector_style="line",
        opacity=1.0,
        blending="translucent_no_depth",  # in 3-D the scan around must not hide them
        **transform_of(tokens),
    )


def _places(tokens: Labels) -> NDArray[np.intp]:
    """Return the index of each token in its layer, whose labels count them from 1; (tokens, 3)."""
    ids = np.asarray(tokens.data)
    return np.stack(np.unravel_index(np.argsort(ids, axis=None), ids.shape), axis=1)


def _shades(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the colour of each line, ``(n, 4)``: the more heads, the more opaque."""
    rgb = np.array(list(bytes.fromhex(colors.CHOSEN[1:7])), dtype=np.float32) / 255
    opacity = _FAINTEST + (1 - _FAINTEST) * shares
    return np.column_stack([np.tile(rgb, (len(shares), 1)), opacity])
