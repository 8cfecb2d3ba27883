"""Sweeps of known numbers, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from napari_sparseseg.analysis.sweep import Sweep, SweepPoint

FACTS = {
    "volume": {"shape": [8, 8, 8], "spacing": [1.0, 1.0, 1.0], "orientation": "RAS"},
    "device": "cpu",
    "precision": "float32",
    "weights_sha256": "0" * 64,
    "versions": {"torch": "2"},
    "notice": "Research use only, not for diagnosis.",
    "seed": 0,
}


def point(
    setting: float,
    to_dense: Sequence[float | None],
    to_reference: Sequence[float | None] | None = None,
    sparsifier: str = "stp",
) -> SweepPoint:
    """Give a point whose seconds and GMACs follow from its setting."""
    return SweepPoint(
        setting,
        sparsifier,
        tuple(to_dense),
        None if to_reference is None else tuple(to_reference),
        seconds=1 + setting,
        gmacs=10 * setting,
        tokens={"total": 100, "kept": round(100 * setting)},
    )


def swept(points: Sequence[SweepPoint], random: Sequence[SweepPoint] = ()) -> Sweep:
    """Give a sweep of points of two classes."""
    has_reference = points[0].dice_to_reference is not None
    return Sweep(
        "made-up-stp", "stp", "keep ratio", ("one", "two"), 10.0, tuple(points), tuple(random),
        has_reference, FACTS,
    )  # fmt: skip
