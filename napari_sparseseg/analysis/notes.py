"""Safety notes: places where leaving tokens out may have cost a structure something."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
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
    """A place to look at: neighbouring tokens that did not run every block.

    Attributes
    ----------
    token : int
        The worst token, as its place in the flattened token grid.
    tokens : tuple of int
        All of them, which touch each other and have the same main structure.
    place : tuple of float
        RAS mm; a voxel of the worst token that differs from the dense twin, in the middle of
        those that do, else the centre of that token. The centre of many tokens may lie where
        nothing differs.
    structure : str
        Main structure: the one of whose volume most changes; where nothing does, the one with
        most voxels.
    fate : str
        What became of the worst token, in the words of :func:`fates.fate_names`.
    confidence : float
        Least of the tokens; NaN if it was not recorded.
    voxels : int
        Voxels in the tokens that differ from the dense twin; 0 for a note on confidence alone.
    millilitres : float
        Their volume.
    share : float
        Part of the main structure's volume (in the dense twin, else in the result) that changes
        here; at most 1.
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
    result or in the dense twin. It is noted if a voxel of it differs from the dense twin, or if
    its confidence is low.

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
    noted = [look.token(token) for token in look.noted(low)]
    notes = [look.note(place) for place in _places(noted, look.index.grid.shape)]
    return tuple(sorted(notes, key=_rank))


def _rank(note: SafetyNote) -> tuple[float, int, float]:
    return -note.share, -note.voxels, note.confidence


@dataclass(frozen=True, eq=False)
class _Token:
    """What is noted of one token.

    Attributes
    ----------
    token : int
        Place in the flattened token grid.
    main : int
        Class of the main structure.
    changes : float
        Voxels of it that change, over its volume.
    voxels : int
        Voxels that differ.
    middle : ndarray of float
        The one of them nearest to their mean, in voxels of the scan; NaN if there are none.
    """

    token: int
    main: int
    changes: float
    voxels: int
    middle: NDArray[np.float64]


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

    def token(self, token: int) -> _Token:
        box = self.index.box(token)
        mine, theirs = self.mine[box], self.theirs[box]
        differs = mine != theirs
        count = int(differs.sum())
        told = differs if count else np.ones_like(differs)
        held = self._held(mine[told], theirs[told])
        held[0] = 0
        weights = held / self.volumes if count else held
        main = int(weights.argmax())
        middle = middle_voxel(differs, box) if count else np.full(3, np.nan)
        return _Token(token, main, float(weights[main]) if count else 0.0, count, middle)

    def _held(self, mine: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Count, for each class, the voxels that are of it in either map."""
        both = np.bincount(mine, minlength=len(self.volumes)).astype(np.float64)
        return both + np.bincount(theirs[theirs != mine], minlength=len(self.volumes))

    def note(self, place: list[_Token]) -> SafetyNote:
        sure = self.confidence
        worst = min(place, key=lambda t: (-t.changes, -t.voxels, float(sure[t.token])))
        voxels = sum(t.voxels for t in place)
        affine = self.result.labels.affine
        least = float(np.fmin.reduce([sure[t.token] for t in place]))
        return SafetyNote(
            token=worst.token,
            tokens=tuple(t.token for t in place),
            place=self._where(worst),
            structure=self.result.classes[worst.main],
            fate=fate_names(self.result.trace)[int(self.fates[worst.token])],
            confidence=least,
            voxels=voxels,
            millilitres=voxels * abs(float(np.linalg.det(affine[:3, :3]))) / 1000,
            share=min(1.0, sum(t.changes for t in place)),
        )

    def _where(self, worst: _Token) -> tuple[float, float, float]:
        place = self.index.grid.centre(worst.token)
        if worst.voxels:
            affine = self.result.labels.affine
            place = affine[:3, :3] @ worst.middle + affine[:3, 3]
        x, y, z = place.tolist()
        return x, y, z


def _few_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "less than 1 %"


def _places(tokens: list[_Token], shape: tuple[int, int, int]) -> Iterator[list[_Token]]:
    """Join tokens that touch, if only at a corner, with the same main structure.

    Those that differ and those that are only unsure are places of their own.
    """
    from scipy import ndimage

    groups: dict[tuple[int, bool], list[_Token]] = {}
    for token in tokens:
        groups.setdefault((token.main, token.voxels > 0), []).append(token)
    for group in groups.values():
        mask = np.zeros(shape, dtype=bool)
        mask.flat[[token.token for token in group]] = True
        parts, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
        numbers = [int(parts.flat[token.token]) for token in group]
        for part in range(1, count + 1):
            yield [t for t, number in zip(group, numbers, strict=True) if number == part]
