"""The parts of a path that can be read: the frames of a file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One of the scans that a path holds.

    Parameters
    ----------
    key : str
        What `napari_sparseseg.files.read_volume` takes as its part.
    title : str
        What it is, for people, without anything about the patient.
    problem : str
        The sentence for which reading it would be refused, empty when it can be read.
    """

    key: str
    title: str
    problem: str = ""


def parts(path: str | os.PathLike[str]) -> tuple[Part, ...]:
    """List what a path holds; see `Part`.

    Parameters
    ----------
    path : path-like
        A file that ends in one of `READABLE`.

    Returns
    -------
    tuple of Part
        The frames of a file, in their order; one for a file with a single one.

    Raises
    ------
    InputError
        When the path cannot be read at all.
    """
    from napari_sparseseg.files.reading import frames

    return frames(Path(path))
