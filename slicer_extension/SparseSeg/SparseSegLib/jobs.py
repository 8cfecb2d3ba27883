"""What is asked of the engine: how to start it, a scan, a setup, a run; plain data."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np

from SparseSegLib.answers import RunAnswer
from SparseSegLib.runner import Refusal, Step


@dataclass(frozen=True)
class Launch:
    """How the engine is started.

    Attributes
    ----------
    command : tuple of str
        Program and arguments.
    environment : mapping or None
        Environment variables, None for those of this process.
    host : str
        Name and version of this program.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] | None = None
    host: str = "3D Slicer"


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume as it is sent.

    Attributes
    ----------
    array : ndarray
        Voxels, axes IJK.
    affine : ndarray
        (4, 4): voxel index to RAS millimetres.
    name : str
        Name for messages.
    key : hashable
        Two scans with the same key hold the same voxels at the same place.
    """

    array: np.ndarray
    affine: np.ndarray
    name: str
    key: Hashable


@dataclass(frozen=True)
class Setup:
    """With what a scan is opened.

    Attributes
    ----------
    model : str
        Name of a model.
    device, precision : str
        Where and how to compute, "auto" for the engine's choice.
    sparsifier : str
        Name of a control in place of the model's own rule, "" for the latter.
    """

    model: str
    device: str = "auto"
    precision: str = "auto"
    sparsifier: str = ""


@dataclass(frozen=True, eq=False)
class Job:
    """One run that somebody waits for; exactly one of the first two callbacks is called.

    A job that a newer one replaces is told nothing.

    Attributes
    ----------
    scan, setup : Scan, Setup
        What to segment, and with what.
    setting : float or None
        Value of the model's setting, None for its default.
    compare_dense : bool
        Whether the dense twin runs too, for the Dice to it.
    on_answer : callable
        Gets a :class:`RunAnswer`.
    on_error : callable
        Gets a :class:`WorkerError`.
    on_progress : callable
        Gets steps done, steps in all (0 if unknown) and the present step.
    """

    scan: Scan
    setup: Setup
    setting: float | None
    compare_dense: bool
    on_answer: Callable[[RunAnswer], None]
    on_error: Refusal
    on_progress: Step

    @property
    def session(self) -> tuple[Hashable, Setup]:
        """What the engine has to have open for it."""
        return self.scan.key, self.setup
