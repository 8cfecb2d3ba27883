"""The scans of each task with their true classes, read one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.quality.runs import RECIPES
from napari_sparseseg.files import read_volume
from napari_sparseseg.training import scans
from napari_sparseseg.training.anatomy import class_of_label, load_anatomy
from napari_sparseseg.training.recipe import load_recipe
from napari_sparseseg.training.source import Sample
from napari_sparseseg.training.synthesis import SynthesisConfig, Synthesiser
from napari_sparseseg.volume import Volume

BRAIN = "brain-mr"

PER_HEAD = 3
"""Synthetic scans of each held-out head."""

FOLDERS = {BRAIN: "brain-labels", "headneck-ct": "headneck-ct", "hippocampus-mr": "hippocampus"}
"""Folder of each task's training data among the data sets."""

_ONES = {"headneck-ct": "patients", "hippocampus-mr": "scans"}
_SEED = 20_000


@dataclass(frozen=True, eq=False)
class Case:
    """A scan with its true classes.

    Attributes
    ----------
    name : str
        Identifier.
    volume : Volume
        The scan.
    truth : ndarray of uint8
        Class of each voxel, on the scan's own grid.
    """

    name: str
    volume: Volume
    truth: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CaseSet:
    """Scans that are reported together; iterating reads one after the other.

    Attributes
    ----------
    what : str
        What they are, in the plural.
    names : tuple of str
        Identifiers of the cases.
    load : callable
        Gives the case of a name.
    """

    what: str
    names: tuple[str, ...]
    load: Callable[[str], Case]

    @property
    def title(self) -> str:
        """What they are, with their number."""
        return f"{len(self.names)} {self.what}"

    def __iter__(self) -> Iterator[Case]:
        return (self.load(name) for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def first(self, count: int | None) -> CaseSet:
        """Return the same set with no more than so many cases; None for all."""
        return replace(self, names=self.names[:count])


def case_sets(task: str, data: Path) -> dict[str, CaseSet]:
    """Return the sets of a task: "test", for reports only, and "validation", for choices.

    Parameters
    ----------
    task : str
        Name of the task.
    data : Path
        Folder of all data sets.

    Raises
    ------
    KeyError
        If the task is unknown.
    InputError
        If files are missing.
    """
    if task == BRAIN:
        return {"test": _brain_t1(data), "validation": synthetic_heads(data)}
    folder, ones = data / FOLDERS[task], _ONES[task]
    return {"test": _split(folder, "test", ones), "validation": _split(folder, "val", ones)}


def training_size(task: str, data: Path) -> int:
    """Return the number of scans, or of label maps, that a task's models learn from."""
    if task != BRAIN:
        return len(scans.read_split(data / FOLDERS[task], "train"))
    held_out = held_out_config().held_out(data / FOLDERS[BRAIN])
    return len(list((data / FOLDERS[BRAIN]).glob("*.nii.gz"))) - len(held_out)


def _split(folder: Path, part: str, ones: str) -> CaseSet:
    """One part of a data set of real scans."""
    files = {case.name: case for case in scans.read_split(folder, part)}

    def load(name: str) -> Case:
        labels = np.rint(read_volume(files[name].label).data).astype(np.uint8)
        return Case(name, read_volume(files[name].image), labels)

    what = f"{'test' if part == 'test' else 'validation'} {ones}"
    return CaseSet(what, tuple(files), load)


def _brain_t1(data: Path) -> CaseSet:
    """One real scan, whose FreeSurfer labels become classes."""

    def load(name: str) -> Case:
        labels = np.rint(read_volume(data / name / "labels.nii.gz").data).astype(np.int64)
        return Case(name, read_volume(data / name / "t1.nii.gz"), class_of_label(labels))

    return CaseSet("real T1 scan", ("brain-t1",), load)


def synthetic_heads(data: Path) -> CaseSet:
    """Return fixed synthetic scans of the heads held out from training.

    They are drawn as in training, brain-centred and without the skull, and wrapped as volumes of
    the model's spacing, so that they go through the engine as a user's scan does.

    Parameters
    ----------
    data : Path
        Folder with ``brain-labels``.
    """
    config = held_out_config()
    heads = tuple(config.held_out(data / FOLDERS[BRAIN]))
    names = tuple(
        f"{file.name.removesuffix('.nii.gz')}-{number}"
        for file in heads
        for number in range(PER_HEAD)
    )

    def load(name: str) -> Case:
        sample = draw_samples(config, heads)[names.index(name)]
        return as_case(name, sample, config.spacing)

    return CaseSet(f"synthetic scans of the {len(heads)} held-out heads", names, load)


def held_out_config() -> SynthesisConfig:
    """Return the generator of the brain models, without its skulls and shifted windows."""
    config = load_recipe(RECIPES / f"{BRAIN}-stp.toml").data
    assert isinstance(config, SynthesisConfig)
    return replace(config, stripped=1.0, off_centre=0.0)


@cache
def draw_samples(config: SynthesisConfig, heads: tuple[Path, ...]) -> list[Sample]:
    """Draw the samples of every head, :data:`PER_HEAD` one after the other."""
    source = Synthesiser(load_anatomy(list(heads)), config)
    source.seed(_SEED)
    return [source.draw(head) for head in range(len(heads)) for _ in range(PER_HEAD)]


def as_case(name: str, sample: Sample, spacing: float) -> Case:
    """Wrap a sample as a scan, axes R, A, S, with the middle of its window at the origin.

    Parameters
    ----------
    name : str
        Identifier.
    sample : Sample
        The draw.
    spacing : float
        Edge of its voxels in mm.
    """
    image = sample.image[0, 0].numpy()
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = [-spacing * (n - 1) / 2 for n in image.shape]
    return Case(name, Volume(image, affine, name), majority(sample.subvoxels).numpy())


def majority(subvoxels: Tensor) -> Tensor:
    """Return the most frequent of the ``(n, x, y, z)`` sub-voxel classes (lowest of equals)."""
    classes = int(subvoxels.max()) + 1
    votes = torch.stack([(subvoxels == index).sum(dim=0) for index in range(classes)])
    return votes.argmax(dim=0).to(torch.uint8)
