"""Sparsifiers: one file per method; ``napari_sparseseg.methods`` registers them by name."""

from __future__ import annotations

from importlib import import_module

from napari_sparseseg.methods import METHODS
from napari_sparseseg.network.config import NetworkConfig
from napari_sparseseg.network.sparsifiers.base import Decision, Scores, Sparsifier


def make_sparsifier(config: NetworkConfig) -> Sparsifier:
    """Build the sparsifier that a configuration names.

    Raises
    ------
    ValueError
        If no sparsifier has this name.
    """
    sparsifier: Sparsifier = _implementation(config.sparsifier)(config)
    return sparsifier


def make_control(name: str, inner: Sparsifier, seed: int = 0) -> Sparsifier:
    """Build a control that takes the place of a network's own sparsifier.

    Parameters
    ----------
    name : str
        A method that is registered as a control.
    inner : Sparsifier
        The network's own, which the control is compared with.
    seed : int
        Seed of what the control draws.

    Raises
    ------
    ValueError
        If no control has this name.
    """
    if name not in METHODS or not METHODS[name].is_control:
        raise ValueError(f"{name!r} is no control")
    control: Sparsifier = _implementation(name)(inner.config, inner, seed)
    return control.train(inner.training)


def _implementation(name: str) -> type:
    if name not in METHODS:
        raise ValueError(f"unknown sparsifier {name!r}; choose one of {', '.join(METHODS)}")
    module, _, cls = METHODS[name].implementation.partition(":")
    found: type = getattr(import_module(f"{__name__}.{module}"), cls)
    return found


__all__ = ["Decision", "Scores", "Sparsifier", "make_control", "make_sparsifier"]
