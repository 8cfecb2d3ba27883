"""One scan among DICOM files: what it is called, what is known of it, and its voxels."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_sparseseg.errors import InputError
from napari_sparseseg.files.dicom_geometry import NoGridError, Stack, normal_of, stack
from napari_sparseseg.files.dicom_groups import Group, groups
from napari_sparseseg.files.dicom_headers import Frame
from napari_sparseseg.files.dicom_pixels import AIR, format_problem, read_slices, same_pixels
from napari_sparseseg.files.parts import Part
from napari_sparseseg.volume import Volume, check_shape

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66"
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_PHYSICAL = ("CT", "PT")
"""Modalities whose values mean the same however they are to be shown."""


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """One scan among DICOM files: a series, or one phase, echo or orientation of it.

    Parameters
    ----------
    part : Part
        How it is listed and chosen.
    name : str
        Modality and number, without any free text: "CT series 3".
    frames : tuple of Frame
        Its slices, in the order of the third voxel axis unless the part has a problem.
    affine : numpy.ndarray
        Matrix (4, 4): column, row, slice to RAS mm.
    notes : tuple of str
        What a user should know about it.
    copies : tuple of pairs of Frame
        Slices, and others that were left out because they should be the same once more.
    """

    part: Part
    name: str
    frames: tuple[Frame, ...]
    affine: np.ndarray
    notes: tuple[str, ...]
    copies: tuple[tuple[Frame, Frame], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, in the order of the third voxel axis; one file may hold all slices."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))

    def read(self) -> Volume:
        """Read the voxels.

        Returns
        -------
        Volume
            Voxels (columns, rows, slices), int16 or float32, with the affine to RAS mm.

        Raises
        ------
        InputError
            When the part has a problem, or its pixels are damaged or do not fit into memory.
        """
        if self.part.problem:
            raise InputError(self.part.problem)
        try:
            data, padded = read_slices(self.frames)
            if not all(same_pixels(*pair) for pair in self.copies):
                raise InputError(
                    f"{self.name} holds slices that pass for the same but differ; remove the "
                    "files of one of them."
                )
        except InputError:
            raise
        except PermissionError as error:
            raise InputError(f"{self.name} may not be read; change its permissions.") from error
        except FileNotFoundError as error:
            raise InputError(
                f"{self.name} has files that have vanished; choose the folder again."
            ) from error
        except MemoryError as error:
            raise InputError(
                f"{self.name} does not fit into memory; crop or downsample it first."
            ) from error
        except Exception as error:  # the libraries raise a zoo of types on damaged pixels
            raise InputError(
                f"{self.name} cannot be read: its pixels are damaged or cut short; export it again."
            ) from error
        notes = [*self.notes, *_fill(data, padded, self.frames[0]), *_turn_over(data, self.frames)]
        voxels = data.transpose(2, 1, 0)
        return Volume(voxels, self.affine, self.name, tuple(notes), self.part.key)


def listed(frames: Sequence[Frame], notes: tuple[str, ...]) -> tuple[DicomSeries, ...]:
    """Sort frames into scans, with a key for each.

    Parameters
    ----------
    frames : sequence of Frame
        Of any number of series.
    notes : tuple of str
        What a user should know about all of them.

    Returns
    -------
    tuple of DicomSeries
        In the order of the series numbers.
    """
    by_series: dict[tuple[int, str], list[Frame]] = defaultdict(list)
    for frame in frames:
        by_series[frame.number, frame.series].append(frame)
    found = [
        (number, group)
        for number, uid in sorted(by_series)
        for group in groups(by_series[number, uid], _is_copy)
    ]
    counts = Counter(number for number, _ in found)
    seen: Counter[int] = Counter()
    scans = []
    for number, group in found:
        seen[number] += 1
        key = str(number) if counts[number] == 1 else f"{number}.{seen[number]}"
        scans.append(_series(key, group, notes))
    return tuple(scans)


def _is_copy(one: Frame, other: Frame) -> bool:
    try:
        return same_pixels(one, other)
    except Exception:  # what cannot be decoded is no known copy; reading it says why
        return False


def _series(key: str, group: Group, notes: tuple[str, ...]) -> DicomSeries:
    first = group.frames[0]
    name = f"{first.modality or 'Image'} series {key}"
    problem = _kind_problem(first) or group.problem
    stacked = Stack(group.frames, np.eye(4), ())
    if not problem:
        try:
            shape = (first.format.columns, first.format.rows, len(group.frames))
            check_shape(shape, name)
            stacked = stack(group.frames)
        except NoGridError as error:
            problem = str(error)
        except InputError as error:
            return _unreadable(key, name, group, str(error))
    if problem:
        return _unreadable(key, name, group, f"{name} {problem}.")
    part = Part(key, _title(group, stacked))
    told = (*notes, *stacked.notes, *_copied(group), *_derived(first))
    return DicomSeries(part, name, stacked.frames, stacked.affine, told, group.copies)


def _unreadable(key: str, name: str, group: Group, problem: str) -> DicomSeries:
    part = Part(key, _title(group, None), problem)
    return DicomSeries(part, name, group.frames, np.eye(4), (), group.copies)


def _kind_problem(frame: Frame) -> str:
    if frame.sop_class.startswith(_SEGMENTATION) or frame.modality == "SEG":
        return "holds a segmentation, not a scan; choose the series that it was drawn on"
    if frame.modality == "RTDOSE":
        return "holds a radiation dose, not a scan; choose the series that it was planned on"
    if problem := format_problem(frame):
        return problem
    if frame.count > 1 and frame.position is None:
        return (
            "is one file with many frames that does not say where each of them lies; export it "
            "as single slices"
        )
    return ""


def _title(group: Group, stacked: Stack | None) -> str:
    first = group.frames[0]
    count = len(group.frames)
    slices = "1 slice" if count == 1 else f"{count} slices"
    words = [
        first.modality or "image",
        f"{slices} of {first.format.columns} x {first.format.rows}",
    ]
    if stacked is not None:
        steps = np.linalg.norm(stacked.affine[:3, :3], axis=0)
        words += [" x ".join(f"{step:.3g}" for step in steps) + " mm", _plane(first)]
    return ", ".join([*words, group.label] if group.label else words)


def _plane(frame: Frame) -> str:
    normal = abs(normal_of(frame))
    plane = ("sagittal", "coronal", "axial")[int(np.argmax(normal))]
    return plane if normal.max() > np.cos(np.radians(5)) else f"oblique {plane}"


def _copied(group: Group) -> list[str]:
    if not group.copies:
        return []
    count = len(group.copies)
    return [
        "1 slice is there twice; the copy was left out."
        if count == 1
        else f"{count} slices are there more than once; the copies were left out."
    ]


def _derived(frame: Frame) -> list[str]:
    kind = frame.marks[0]
    if frame.sop_class.startswith(_CAPTURE):
        return ["The images are secondary captures, not those of a scanner; judge their values."]
    if isinstance(kind, tuple) and kind[:1] == ("DERIVED",):
        return ["The images are derived from others, not those of a scanner; judge their values."]
    return []


def _fill(data: np.ndarray, padded: np.ndarray, first: Frame) -> list[str]:
    """Give padding the value of air, or the smallest value of the scan."""
    if not padded.size:
        return []
    voxels = data.reshape(-1)
    voxels[padded] = data.max()  # so that the smallest value is that of another voxel
    value, what = (AIR, "air") if first.modality == "CT" else (data.min(), "the smallest value")
    voxels[padded] = value
    count = "1 voxel lies" if padded.size == 1 else f"{padded.size} voxels lie"
    return [f"{count} outside the field of view (padding) and became {value:g}, {what}."]


def _turn_over(data: np.ndarray, frames: Sequence[Frame]) -> list[str]:
    """Make low values dark where the header has them bright, unless they are physical."""
    if frames[0].format.photometric != "MONOCHROME1":
        return []
    if frames[0].modality in _PHYSICAL:
        return [
            "The headers ask to show high values dark; the values are physical ones and were "
            "left as they are."
        ]
    ends = data.min().astype(np.float64) + data.max()
    for plane in data:
        plane[...] = (ends - plane).astype(data.dtype)
    return ["High values are dark in this scan (MONOCHROME1); it was turned over."]
