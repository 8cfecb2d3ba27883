"""Volumes from files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sparseseg.errors import ChoiceNeeded, InputError
from napari_sparseseg.files.analyze import pair_layout
from napari_sparseseg.files.formats import PAIR_SUFFIXES, READABLE, image_suffix
from napari_sparseseg.files.layout import Layout, check_length
from napari_sparseseg.files.metaimage import metaimage_layout
from napari_sparseseg.files.nifti import nifti_layout
from napari_sparseseg.files.nrrd import nrrd_layout
from napari_sparseseg.files.parts import Part
from napari_sparseseg.files.voxels import read_voxels
from napari_sparseseg.volume import Volume, spacing_of

_JUDGES = {
    **dict.fromkeys((".nii", ".nii.gz"), nifti_layout),
    **dict.fromkeys((".nrrd", ".nhdr"), nrrd_layout),
    **dict.fromkeys((".mha", ".mhd"), metaimage_layout),
    **dict.fromkeys(PAIR_SUFFIXES, pair_layout),
}


def read_volume(path: str | os.PathLike[str], *, part: str = "", mapped: bool = False) -> Volume:
    """Read a scan or a label map.

    Parameters
    ----------
    path : path-like
        A file that ends in one of `READABLE`; of a pair, either file. Or a folder with DICOM
        files, or a DICOM file of any name; a single slice stands for its series.
    part : str
        Which frame of a file, or which series of a folder, where there are several: the key of
        one of its `parts`.
    mapped : bool
        Leave the voxels in the file where it holds them as they are (neither packed, scaled nor
        of foreign byte order), and read them when they are used; else they are read at once. The
        file must stay as it is while the volume lives: where a mapped file is cut short, the
        system ends the program.

    Returns
    -------
    Volume
        Voxels (I, J, K) in the file's index order, scaled as the file says, with the affine to
        RAS mm. For NIfTI the sform counts, else the qform; lengths of unknown unit are
        millimetres. The name is that of the file, and the notes say what was assumed.
        Values are not judged: see `Volume.validated`.

    Raises
    ------
    InputError
        When the file is missing, damaged, of another format, or holds no 3-D frames with one
        real number per voxel; or several, and `part` is none of them.
    """
    path = Path(path)
    if is_dicom(path):
        from napari_sparseseg.files.dicom import read_dicom

        return read_dicom(path, part)
    with _sentences(path) as suffix:
        layout = _judged(path, suffix)
        frame = _chosen(layout, part, path.name)
        data = read_voxels(layout, frame, mapped)
    name = path.name[: -len(suffix)] or path.name
    return Volume(data, layout.affine, name, layout.notes, part)


def is_dicom(path: Path) -> bool:
    """Tell whether a path is to be read as DICOM: a folder, or a file that no ending gives away.

    Whatever keeps a file from being looked at is said when it is read.
    """
    if path.is_dir():
        return True
    if image_suffix(path, READABLE):
        return False
    from napari_sparseseg.files.dicom_headers import is_dicom_file

    try:
        return is_dicom_file(path)
    except OSError:
        return False


def frames(path: Path) -> tuple[Part, ...]:
    """List the frames of a file; see `napari_sparseseg.files.parts`."""
    with _sentences(path) as suffix:
        layout = _judged(path, suffix)
    spacing = " x ".join(f"{step:.3g}" for step in spacing_of(layout.affine))
    size = " x ".join(map(str, layout.shape))
    return tuple(
        Part(str(n), f"frame {n} of {layout.frames}, {size} voxels of {spacing} mm")
        for n in range(1, layout.frames + 1)
    )


def _judged(path: Path, suffix: str) -> Layout:
    layout = _JUDGES[suffix](path)
    check_length(layout, layout.file.stat().st_size)
    return layout


def _chosen(layout: Layout, part: str, name: str) -> int:
    count = layout.frames
    if not part and count == 1:
        return 0
    keys = [str(n) for n in range(1, count + 1)]
    if part in keys:
        return keys.index(part)
    if part:
        raise ChoiceNeeded(
            f"{name} holds no frame of the name that was asked for; choose 1 to {count}."
        )
    raise ChoiceNeeded(
        f"{name} holds {count} frames, 1 to {count}; choose one of them as the part to read."
    )


@contextmanager
def _sentences(path: Path) -> Iterator[str]:
    """Give the ending of a file, and say every error that reading it meets in one sentence."""
    suffix = image_suffix(path, READABLE) or ""
    try:
        _check_source(path, suffix)
        yield suffix
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"{path} may not be read; change its permissions.") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist any more; choose it again.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; check the disk or choose a copy."
        ) from error
    except MemoryError as error:
        raise InputError(
            f"{path.name} does not fit into memory; crop or downsample it first."
        ) from error
    except Exception as error:  # the libraries raise a zoo of types on a damaged file
        raise InputError(
            f"{path.name} cannot be read: it is damaged, cut short or not a {suffix} image; "
            "export it again."
        ) from error


def _check_source(path: Path, suffix: str) -> None:
    if not suffix:
        raise InputError(f"{path.name} has an unknown ending; use one of {', '.join(READABLE)}.")
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name and the folder.")
