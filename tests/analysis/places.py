"""Grids of every orientation, obliquity and spacing, for tests of where things lie."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

TURNS = [
    np.eye(3)[list(order)] * signs
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""All 48 orientations."""

SPACINGS = st.tuples(*(st.sampled_from((0.7, 1.0, 2.0, 3.3, 5.0)) for _ in range(3)))
ANGLES = st.tuples(*(st.floats(-40, 40) for _ in range(3)))


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any rectangular grid: one of 48 orientations, then turned, with unequal spacing."""
    affine = np.eye(4)
    rotation = Rotation.from_euler("xyz", draw(ANGLES), degrees=True).as_matrix()
    turn = draw(st.sampled_from(TURNS))
    affine[:3, :3] = rotation @ turn @ np.diag(draw(SPACINGS))
    affine[:3, 3] = (-31.0, 117.5, 8.25)
    return affine
