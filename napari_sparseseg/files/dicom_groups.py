"""Which DICOM frames belong together: one series may hold several scans."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_sparseseg.files.dicom_geometry import SAME_PLACE, NoGridError, distances, normal_of
from napari_sparseseg.files.dicom_headers import MARKS, Frame

_SAME_DIRECTION = 1e-3
_SAME_SPACING = 1e-4  # mm: over a thousand pixels it makes a tenth

Same = Callable[[Frame, Frame], bool]


@dataclass(frozen=True)
class Group:
    """Frames that make one scan.

    Parameters
    ----------
    frames : tuple of Frame
        At different places, in no order, unless there is a problem.
    label : str
        What tells it from the others of its series: "echo 2 of 3".
    copies : tuple of pairs of Frame
        A frame of the group, and one that was left out because it is the same once more.
    problem : str
        What does not make a scan of it; it goes on after the name of the series.
    """

    frames: tuple[Frame, ...]
    label: str = ""
    copies: tuple[tuple[Frame, Frame], ...] = ()
    problem: str = ""


def groups(frames: Sequence[Frame], same_pixels: Same) -> list[Group]:
    """Sort the frames of one series into scans.

    Frames with other sizes, spacings or orientations make a scan of their own. Where several lie
    at one place, `MARKS` tell them apart, or else their order.

    Parameters
    ----------
    frames : sequence of Frame
        The frames of one series.
    same_pixels : callable
        Tells whether two frames hold the same values; asked only where no header can tell.

    Returns
    -------
    list of Group
    """
    found: list[list[Group]] = []
    kinds: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        kinds[_kind(frame)].append(frame)
    for kind in kinds.values():
        try:
            normal_of(kind[0])
        except NoGridError as problem:
            found.append([Group(tuple(kind), problem=str(problem))])
            continue
        found += [_one_place_each(alike, same_pixels) for alike in _one_orientation(kind)]
    found.sort(key=lambda alike: min(f.instance for group in alike for f in group.frames))
    return [group for alike in found for group in alike]


def _kind(frame: Frame) -> tuple[object, ...]:
    stored = frame.format
    where = tuple(value is None for value in (frame.position, frame.orientation, frame.spacing))
    shape = (stored.rows, stored.columns, stored.photometric, stored.samples, stored.has_table)
    return (frame.modality, frame.sop_class, *shape, *where)


def _one_orientation(frames: list[Frame]) -> list[list[Frame]]:
    """Divide by orientation and spacing, which scanners round differently from slice to slice."""
    vectors = np.array([(*(f.orientation or ()), *(f.spacing or ())) for f in frames])
    allowed = np.repeat([_SAME_DIRECTION, _SAME_SPACING], (6, 2))
    rest = np.arange(len(frames))
    found = []
    while rest.size:
        near = (abs(vectors[rest] - vectors[rest[0]]) <= allowed).all(axis=1)
        found.append([frames[index] for index in rest[near]])
        rest = rest[~near]
    return found


def _one_place_each(frames: list[Frame], same_pixels: Same) -> list[Group]:
    kept: dict[object, Frame] = {}
    copies = []
    for frame in frames:
        first = kept.setdefault((frame.uid or frame.path, frame.index, frame.position), frame)
        if first is not frame:
            copies.append((first, frame))
    found = _apart(Group(tuple(kept.values())), same_pixels)
    return [
        replace(group, copies=(*group.copies, *(c for c in copies if c[0] in group.frames)))
        if copies
        else group
        for group in found
    ]


def _apart(group: Group, same_pixels: Same) -> list[Group]:
    """Divide until no two frames of a group lie at one place."""
    places = _places(group.frames)
    shared = [place for place in places if len(place) > 1]
    if not shared:
        return [group]
    for index, mark in enumerate(MARKS):
        if any(len({frame.marks[index] for frame in place}) > 1 for place in shared):
            divided = _by_mark(group.frames, index)
            if mark == "image type" or _is_consistent(mark, divided, len(places)):
                return _numbered(group, mark, divided, same_pixels)
    if all(same_pixels(place[0], other) for place in shared for other in place[1:]):
        copies = tuple((place[0], other) for place in shared for other in place[1:])
        frames = tuple(place[0] for place in places)
        return [replace(group, frames=frames, copies=(*group.copies, *copies))]
    counts = {len(place) for place in places}
    if len(counts) == 1 and all(len({f.instance for f in p}) == len(p) for p in places):
        ranked = [sorted(place, key=lambda frame: frame.instance) for place in places]
        divided = [list(phase) for phase in zip(*ranked, strict=True)]
        return _numbered(group, "image", divided, same_pixels)
    where = "1 place" if len(shared) == 1 else f"{len(shared)} places"
    problem = (
        f"holds several different slices at {where} and does not say which of them belong "
        "together; export the scans as series of their own"
    )
    return [replace(group, problem=problem)]


def _places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Gather the frames that lie at one place."""
    along = distances(frames)
    order = np.argsort(along, kind="stable")
    ends = np.flatnonzero(np.diff(along[order]) > SAME_PLACE) + 1
    return [[frames[index] for index in place] for place in np.split(order, ends)]


def _by_mark(frames: Sequence[Frame], index: int) -> list[list[Frame]]:
    divided: dict[object, list[Frame]] = defaultdict(list)
    for frame in frames:
        divided[frame.marks[index]].append(frame)
    return [divided[value] for value in sorted(divided, key=_sortable)]


def _sortable(value: object) -> tuple[str, object]:
    return type(value).__name__, 0 if value is None else value


def _is_consistent(mark: str, divided: list[list[Frame]], places: int) -> bool:
    """Tell whether a division gives whole scans, not shreds.

    The trigger time of a heart scan, for one, differs from slice to slice. An acquisition may be
    shorter than another.
    """
    found = [_places(frames) for frames in divided]
    if all(len(each) == places for each in found):
        return True
    return mark == "acquisition" and all(
        len(each) == len(frames) for each, frames in zip(found, divided, strict=True)
    )


def _numbered(
    group: Group, mark: str, divided: list[list[Frame]], same_pixels: Same
) -> list[Group]:
    found = []
    for number, frames in enumerate(divided, start=1):
        label = f"{mark} {number} of {len(divided)}"
        label = f"{group.label}, {label}" if group.label else label
        found += _apart(replace(group, frames=tuple(frames), label=label), same_pixels)
    return found
