"""Safety notes: places where leaving tokens out may have cost a structure something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.analysis.compare import matched
from napari_sparseseg.analysis.patches import TokenIndex, middle_voxel
from napari_sparseseg.fates import fate_map, fate_names
from napari_sparseseg.report import count_classes
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation

LOW_CONFIDENCE = 0.6
"""Confidence of a token below which it is noted though the dense twin agrees."""


@dataclass(frozen=True)
class SafetyNote:
    """A place to look at: neighbouring tokens that did not run every block, and one structure.

    Attributes
    ----------
    token : int
        The worst token, as its place in the flattened token grid.
    tokens : tuple of int
        It, and those of its 26 neighbours in which the same structure is noted.
    place : tuple of float
        RAS mm; a voxel of the worst token in which the structure changes, in the middle of those,
        else the centre of that token.
    structure : str
        The structure that changes here; where nothing does, the one with most voxels.
    fate : str
        What became of the worst token, in the words of :func:`fates.fate_names`.
    confidence : float
        Least of the tokens; NaN if it was not recorded.
    voxels : int
        Voxels of these tokens that only one of result and dense twin gives to the structure; 0
        for a note on confidence alone.
    millilitres : float
        Their volume.
    share : float
        Part of the structure's volume (in the dense twin, else in the result) that changes here;
        at most 1.
    """

    token: int
    tokens: tuple[int, ...]
    place: tuple[float, float, float]
    structure: str
    fate: str
    confidence: float
    voxels: int
    millilitres: float
    share: float

    @property
    def text(self) -> str:
        """The note as a sentence."""
        name = self.structure[:1].upper() + self.structure[1:]
        count = len(self.tokens)
        where = f"a token {self.fate}" if count == 1 else f"{count} tokens, the worst {self.fate}"
        if not self.voxels:
            return f"{name}: confidence {self.confidence:.2f} in {where}."
        voxels = "1 voxel" if self.voxels == 1 else f"{self.voxels:,} voxels"
        differ = "differs" if self.voxels == 1 else "differ"
        return (
            f"{name}: {voxels} ({_few_digits(self.millilitres)} ml) {differ} from the dense twin "
            f"in {where}; {_percent(self.share)} of the structure changes; confidence "
            f"{self.confidence:.2f}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the note, JSON-ready."""
        known = self.confidence == self.confidence
        confidence = round(self.confidence, 4) if known else None
        place = [round(mm, 2) for mm in self.place]
        return {**asdict(self), "place": place, "confidence": confidence, "text": self.text}


def safety_notes(
    result: Segmentation, dense: Segmentation | None = None, low: float = LOW_CONFIDENCE
) -> tuple[SafetyNote, ...]:
    """List the places where leaving tokens out may have cost something, worst first.

    A token is looked at if it did not run every block, is not air, and holds a structure in the
    result or in the dense twin. It is noted for each structure of which a voxel in it differs from
    the dense twin, or if none does and its confidence is low.

    Parameters
    ----------
    result : Segmentation
        The observed run.
    dense : Segmentation, optional
        The same session's run at setting 1; without it only the confidence counts.
    low : float
        Confidence below which a token is noted.

    Returns
    -------
    tuple of SafetyNote
        By the share of a structure that changes, then by the voxels that do; those on confidence
        alone come after them, the least confident first.

    Raises
    ------
    InputError
        If the run was not observed, or the dense twin is of another scan.
    """
    look = _Look.at(result, dense)
    noted = chain.from_iterable(look.changes(token) for token in look.noted(low))
    notes = [look.note(place) for place in _places(noted, look.index.grid.shape)]
    return tuple(sorted(notes, key=_rank))


def _rank(note: SafetyNote) -> tuple[float, int, float]:
    return -note.share, -note.voxels, note.confidence


@dataclass(frozen=True)
class _Change:
    """What is noted of one structure in one token.

    Attributes
    ----------
    token : int
        Place in the flattened token grid.
    structure : int
        Its class.
    voxels : int
        Voxels that only one of result and dense twin gives to it.
    confidence : float
        That of the token.
    """

    token: int
    structure: int
    voxels: int
    confidence: float


@dataclass(frozen=True, eq=False)
class _Look:
    """A result beside its dense twin, or beside itself where there is none."""

    result: Segmentation
    index: TokenIndex
    mine: NDArray[np.uint8]
    theirs: NDArray[np.uint8]
    volumes: NDArray[np.int64]  # (classes,) voxels in the dense twin, else in the result
    fates: NDArray[np.uint8]  # (tokens,)
    confidence: NDArray[np.float32]  # (tokens,)

    @classmethod
    def at(cls, result: Segmentation, dense: Segmentation | None) -> _Look:
        trace, mine = result.trace, result.labels.data
        twin: Volume = result.labels
        if dense is not None:
            twin = matched(dense.labels, result.labels, result.classes)
        counts = [count_classes(labels, len(result.classes)) for labels in (twin.data, mine)]
        return cls(
            result,
            TokenIndex.of(trace.grid, result.labels),
            mine,
            twin.data,
            np.maximum(1, np.where(counts[0] > 0, *counts)),
            fate_map(trace).ravel(),
            trace.confidence.ravel(),
        )

    def noted(self, low: float) -> list[int]:
        trace, index = self.result.trace, self.index
        looked_at = ~trace.kept & ~trace.air & (index.count((self.mine | self.theirs) > 0) > 0)
        differs = index.count(self.mine != self.theirs) > 0
        return np.flatnonzero(looked_at & (differs | (trace.confidence < low))).tolist()

    def changes(self, token: int) -> list[_Change]:
        """Return what is noted of a token: each structure that changes, else doubt in one."""
        box, sure = self.index.box(token), float(self.confidence[token])
        mine, theirs = self.mine[box], self.theirs[box]
        differs = mine != theirs
        if not differs.any():
            return [_Change(token, int(self._counted(mine).argmax()), 0, sure)]
        # a voxel that differs is of two classes, so that none is counted twice
        counts = self._counted(mine[differs]) + self._counted(theirs[differs])
        return [_Change(token, c, int(counts[c]), sure) for c in np.flatnonzero(counts).tolist()]

    def _counted(self, labels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Count the voxels of each structure, none for background."""
        counts = np.bincount(labels.ravel(), minlength=len(self.volumes))
        counts[0] = 0
        return counts

    def note(self, place: list[_Change]) -> SafetyNote:
        worst, voxels = place[0], sum(change.voxels for change in place)
        affine = self.result.labels.affine
        return SafetyNote(
            token=worst.token,
            tokens=tuple(sorted(change.token for change in place)),
            place=self._where(worst),
            structure=self.result.classes[worst.structure],
            fate=fate_names(self.result.trace)[int(self.fates[worst.token])],
            confidence=float(np.fmin.reduce([change.confidence for change in place])),
            voxels=voxels,
            millilitres=voxels * abs(float(np.linalg.det(affine[:3, :3]))) / 1000,
            share=min(1.0, voxels / int(self.volumes[worst.structure])),
        )

    def _where(self, worst: _Change) -> tuple[float, float, float]:
        place = self.index.grid.centre(worst.token)
        if worst.voxels:
            box, affine = self.index.box(worst.token), self.result.labels.affine
            mine, theirs = (labels[box] == worst.structure for labels in (self.mine, self.theirs))
            place = affine[:3, :3] @ middle_voxel(mine != theirs, box) + affine[:3, 3]
        x, y, z = place.tolist()
        return x, y, z


def _few_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "less than 1 %"


def _places(changes: Iterable[_Change], shape: tuple[int, int, int]) -> Iterator[list[_Change]]:
    """Gather changes of one structure around the worst of them, again and again; worst first.

    A place is no larger than a token with its neighbours, so that one view shows all of it. Those
    that differ and those that are only unsure are places of their own.
    """
    groups: dict[tuple[int, bool], list[_Change]] = {}
    for change in changes:
        groups.setdefault((change.structure, change.voxels > 0), []).append(change)
    for group in groups.values():
        group.sort(key=lambda change: (-change.voxels, change.confidence))
        cells = np.stack(np.unravel_index([change.token for change in group], shape), axis=1)
        left = np.ones(len(group), dtype=bool)
        while left.any():
            worst = left.argmax()
            near = left & (np.abs(cells - cells[worst]).max(axis=1) <= 1)
            left &= ~near
            yield [group[number] for number in np.flatnonzero(near)]
