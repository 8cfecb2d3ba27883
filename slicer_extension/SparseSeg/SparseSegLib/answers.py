"""What the engine answers, as arrays and plain data; the standard library and numpy only.

The engine leaves its arrays as files in the private folder. They are read into memory and deleted
at once, so that what lies on disk is never more than one answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


class AnswerError(Exception):
    """An answer does not say what the protocol says that it does."""


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend.

    Attributes
    ----------
    value : int
        Value in the map.
    text : str
        What it means.
    color : str
        "#rrggbbaa".
    count : int or None
        Number of tokens, None where nobody counted.
    """

    value: int
    text: str
    color: str
    count: int | None


@dataclass(frozen=True, eq=False)
class TokenMap:
    """A map on the token grid.

    Attributes
    ----------
    kind : str
        "kept", "importance", "depth", "reactivations" or "confidence".
    stage : int or None
        Stage, from 1, of a map that each stage has one of.
    title, about : str
        Its name, and how to read it.
    data : ndarray
        One value a token, axes IJK.
    type : str
        "categories" or "shades".
    legend : tuple of LegendEntry
        What the values of categories mean; a value without an entry is left clear.
    range : tuple of float
        What the first and the last colour of shades stand for; NaN is left clear.
    colormap : tuple of str
        "#rrggbbaa", the colours of shades.
    """

    kind: str
    stage: int | None
    title: str
    about: str
    data: np.ndarray
    type: str
    legend: tuple[LegendEntry, ...]
    range: tuple[float, float]
    colormap: tuple[str, ...]

    @property
    def key(self) -> tuple[str, int | None]:
        """What tells it from the other maps of a result."""
        return self.kind, self.stage


@dataclass(frozen=True)
class Structure:
    """One structure of the segmentation.

    Attributes
    ----------
    value : int
        Value in the labels.
    name, color : str
        Name, and "#rrggbb".
    terminology : str or None
        Its standard code as Slicer writes it, None where it has none.
    voxels : int
        Number of voxels.
    millilitres : float
        Volume.
    dice_to_dense : float or None
        Dice to the dense twin, None where it was not asked for.
    """

    value: int
    name: str
    color: str
    terminology: str | None
    voxels: int
    millilitres: float
    dice_to_dense: float | None


@dataclass(frozen=True, eq=False)
class Grid:
    """The token grid of a volume.

    Attributes
    ----------
    shape : tuple of int
        Number of tokens along I, J and K.
    patch : tuple of int
        Voxels of the model's grid in one token, along I, J and K.
    affine : ndarray
        (4, 4): index of a token to RAS millimetres of its centre.
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]
    affine: np.ndarray


@dataclass(frozen=True, eq=False)
class RunAnswer:
    """The answer of one run.

    Attributes
    ----------
    labels : ndarray of uint8
        On the grid of the volume that was sent, axes IJK.
    structures : tuple of Structure
        The structures in the order of their values.
    maps : tuple of TokenMap
        The maps in the order in which they are offered.
    fate : str
        The word for tokens that did not run every block: "pruned", "exited", "skipped", "muted".
    report : dict
        Facts and figures of the run.
    grid : Grid
        Where the maps lie.
    """

    labels: np.ndarray
    structures: tuple[Structure, ...]
    maps: tuple[TokenMap, ...]
    fate: str
    report: dict[str, Any]
    grid: Grid


def read_run(result: Mapping[str, Any], folder: Path, grid: Grid) -> RunAnswer:
    """Make an answer of a ``run`` result, and delete its files.

    Raises
    ------
    AnswerError
        If the result is not as the protocol says.
    """
    try:
        return RunAnswer(
            labels=take_array(folder, result["labels"]),
            structures=tuple(Structure(**entry) for entry in result["structures"]),
            maps=tuple(_map(entry, folder) for entry in result["maps"]),
            fate=str(result["fate"]),
            report=dict(result["report"]),
            grid=grid,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AnswerError(f"run: {error!r}") from error


def read_map(result: Mapping[str, Any], folder: Path) -> TokenMap | None:
    """Make a map of a ``preview`` result, and delete its file; None if there is nothing to show.

    Raises
    ------
    AnswerError
        If the result is not as the protocol says.
    """
    try:
        return None if result["map"] is None else _map(result["map"], folder)
    except (KeyError, TypeError, ValueError) as error:
        raise AnswerError(f"preview: {error!r}") from error


def read_grid(result: Mapping[str, Any]) -> Grid:
    """Make a grid of an ``open`` result.

    Raises
    ------
    AnswerError
        If the result is not as the protocol says.
    """
    try:
        grid = result["grid"]
        patch = grid["patch"]
        affine = np.array(grid["affine"], dtype=float)
        if affine.shape != (4, 4):
            raise ValueError(f"affine of shape {affine.shape}")
        return Grid(
            tuple(map(int, grid["shape"])),
            (patch,) * 3 if isinstance(patch, int) else tuple(map(int, patch)),
            affine,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise AnswerError(f"open: {error!r}") from error


def take_array(folder: Path, name: str) -> np.ndarray:
    """Read an array into memory and delete its file.

    Raises
    ------
    AnswerError
        If the name leads out of the folder, or there is no array of that name.
    """
    if Path(name).name != name or not name.endswith(".npy"):
        raise AnswerError(f"{name!r} is not the name of an array in the private folder")
    path = folder / name
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AnswerError(f"{name} cannot be read: {error}") from error
    finally:
        path.unlink(missing_ok=True)


def _map(entry: Mapping[str, Any], folder: Path) -> TokenMap:
    low, high = entry.get("range") or (0.0, 1.0)
    legend = (
        LegendEntry(int(line["value"]), line["text"], line["color"], line.get("count"))
        for line in entry.get("legend") or ()
    )
    return TokenMap(
        kind=entry["kind"],
        stage=entry.get("stage"),
        title=entry["title"],
        about=entry["about"],
        data=take_array(folder, entry["data"]),
        type=entry["type"],
        legend=tuple(legend),
        range=(float(low), float(high)),
        colormap=tuple(entry.get("colormap") or ()),
    )
