"""Sparsifiers by name: one file per method, one line here."""

from __future__ import annotations

from napari_sparseseg.network.sparsifiers.base import Decision, Sparsifier
from napari_sparseseg.network.sparsifiers.controls import RandomPruning
from napari_sparseseg.network.sparsifiers.dense import KeepAll
from napari_sparseseg.network.sparsifiers.stp import SoftTopKPruning

SPARSIFIERS: dict[str, type[Sparsifier]] = {
    "dense": KeepAll,
    "stp": SoftTopKPruning,
    "random": RandomPruning,
}


def make_sparsifier(name: str, dim: int, stages: int) -> Sparsifier:
    """Build the sparsifier registered under a name.

    Raises
    ------
    ValueError
        If no sparsifier has this name.
    """
    if name not in SPARSIFIERS:
        raise ValueError(f"unknown sparsifier {name!r}; choose one of {', '.join(SPARSIFIERS)}")
    return SPARSIFIERS[name](dim, stages)


__all__ = [
    "SPARSIFIERS",
    "Decision",
    "KeepAll",
    "RandomPruning",
    "SoftTopKPruning",
    "Sparsifier",
    "make_sparsifier",
]
