"""Which of the scans that a file or folder holds become layers, and the files that stand for them.

napari calls readers in the thread of its window. Where there is such a window the user chooses
among several scans, sees that a large one is being read, and is told in a sentence what cannot be;
where there is none, as in scripts and tests, that sentence is raised.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import READABLE, Part, parts, read_volume
from napari_sparseseg.files.formats import PAIR_SUFFIXES

if TYPE_CHECKING:
    from qtpy.QtWidgets import QMainWindow

    from napari_sparseseg.volume import Volume

T = TypeVar("T")

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""How the names of DICOM files end that have an ending; others are opened as their folder."""

FILES = "files"
"""What the metadata of a layer call the files of which each stands for it."""

_LOOKED_AT = 5000  # files in a folder and below, until it is taken for none of ours
_NAMED = 3  # scans that a sentence names


@dataclass(frozen=True)
class Candidate:
    """One scan that can be opened.

    Attributes
    ----------
    path : str
        File or folder.
    part : Part
        Which part of it; with an empty key for all of it.
    """

    path: str
    part: Part


@dataclass(frozen=True, eq=False)
class Opened:
    """A scan that was read, with what tells it from others.

    Attributes
    ----------
    volume : Volume
        The scan.
    candidate : Candidate
        Where it comes from.
    files : tuple of str
        Files of which each stands for the scan: the slices of a DICOM series, the two files of a
        pair; else empty.
    """

    volume: Volume
    candidate: Candidate
    files: tuple[str, ...]


def holds_scans(path: str) -> bool:
    """Tell whether a path is one to read: by its ending, or by what a folder holds."""
    if not os.path.isdir(path):
        return path.lower().endswith(READABLE + DICOM_SUFFIXES)
    from napari_sparseseg.files.dicom import is_dicom

    for number, file in enumerate(_files_below(path)):
        if number > _LOOKED_AT:
            return False
        if file.lower().endswith(READABLE) or is_dicom(Path(file)):
            return True
    return False


def open_scans(paths: Sequence[str], turn: Callable[[Opened], T]) -> list[T]:
    """Read the scans of some paths; see the top of this module for who chooses.

    Parameters
    ----------
    paths : sequence of str
        Files and folders. Of several slices of one series, all but the first stand for a scan
        that is there by then.
    turn : callable
        Turns a scan into what is returned of it; may raise InputError too.

    Returns
    -------
    list
        Empty if the user chose nothing, or saw why nothing can be read.

    Raises
    ------
    InputError
        If something cannot be read and no window is there to say so.
    """
    window = visible_window()
    there: set[str] = set()
    results: list[T] = []

    def read(candidate: Candidate) -> T:
        opened = _read(candidate)
        result = turn(opened)
        there.update(opened.files)
        return result

    for path in paths:
        if os.path.abspath(path) in there or _is_open(os.path.abspath(path)):
            continue
        if window is None:
            results.append(read(_without_window(path)))
        else:
            results += _open_in(window, path, read)
    return results


def _open_in(window: QMainWindow, path: str, read: Callable[[Candidate], T]) -> list[T]:
    """Let the user choose, read beside the window, and say what goes wrong."""
    from napari.utils.notifications import show_error

    from napari_sparseseg.plugin.parts_dialog import choose_parts
    from napari_sparseseg.plugin.waiting import wait_for

    name = os.path.basename(os.path.normpath(path))
    opened: list[T] = []
    try:
        offered = wait_for(window, f"Looking at {name}", lambda: candidates(path))
        usable = [one for one in offered if not one.part.problem]
        several = len(usable) > 1
        # where none can be read, reading the first one says why
        chosen = choose_parts(window, name, offered) if several else usable or offered[:1]
        for one in chosen:
            title = f"Reading {name}" + f" ({one.part.title})" * several
            opened.append(wait_for(window, title, partial(read, one)))
    except InputError as error:
        show_error(str(error))
    return opened


def candidates(path: str) -> list[Candidate]:
    """List the scans of a path; headers are read, no voxels.

    Raises
    ------
    InputError
        If there is none, or the path cannot be read.
    """
    if not os.path.isdir(path):
        found = parts(path)
        return [Candidate(path, part) for part in found] if len(found) > 1 else [_whole(path)]
    files = _scans_in(path)
    try:
        return [Candidate(path, part) for part in parts(path)] + files
    except InputError:
        if not files:
            raise
        return files


def visible_window() -> QMainWindow | None:
    """Return the window that the user looks at, None if there is none."""
    if "qtpy" not in sys.modules:
        return None
    from qtpy.QtWidgets import QApplication, QMainWindow

    if QApplication.instance() is None:
        return None
    windows = [QApplication.activeWindow(), *QApplication.topLevelWidgets()]
    return next((x for x in windows if isinstance(x, QMainWindow) and x.isVisible()), None)


def _without_window(path: str) -> Candidate:
    """Return the only scan of a path; a path with several is refused when it is read."""
    found = candidates(path)
    if len(found) == 1:
        return found[0]
    if any(one.path != path for one in found):
        names = ", ".join(os.path.basename(one.path) for one in found[:_NAMED])
        raise InputError(f"{path} holds {len(found)} scans; open one of them, as {names}.")
    return _whole(path)


def _whole(path: str) -> Candidate:
    return Candidate(path, Part("", os.path.basename(path)))


def _read(candidate: Candidate) -> Opened:
    path, part = candidate.path, candidate.part
    volume = read_volume(path, part=part.key)
    if part.title.startswith("frame"):
        volume = replace(volume, name=f"{volume.name}, {part.title.split(',')[0]}")
    return Opened(volume, candidate, _files_of(path, part.key))


def _files_of(path: str, key: str) -> tuple[str, ...]:
    """Return the files of which each stands for the whole scan."""
    name, ending = os.path.splitext(os.path.abspath(path))
    if ending.lower() in PAIR_SUFFIXES:
        return tuple(name + other for other in (ending, *PAIR_SUFFIXES))
    if path.lower().endswith(READABLE):
        return ()
    from napari_sparseseg.files.dicom import source_files

    return tuple(os.path.abspath(file) for file in source_files(path, key))


def _scans_in(folder: str) -> list[Candidate]:
    """List the image files in a folder; of a pair the header."""
    names = sorted(os.listdir(folder))
    files = [name for name in names if name.lower().endswith(READABLE)]
    headers = {os.path.splitext(name)[0] for name in files if name.lower().endswith(".hdr")}
    return [
        Candidate(os.path.join(folder, name), Part("", name))
        for name in files
        if not (name.lower().endswith(".img") and os.path.splitext(name)[0] in headers)
    ]


def _files_below(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (os.path.join(place, name) for name in sorted(names))


def _is_open(path: str) -> bool:
    """Tell whether a file belongs to a scan that is open, and choose its layer.

    napari hands over the slices that a user drops on it one by one.
    """
    napari: Any = sys.modules.get("napari")
    viewer: Any = None if napari is None else napari.current_viewer()
    for layer in () if viewer is None else viewer.layers:
        if path in layer.metadata.get(FILES, ()):
            viewer.layers.selection = {layer}
            return True
    return False
