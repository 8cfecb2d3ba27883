"""What a model segments, on which data it was trained, and what it cannot do.

One description for each task; model files, cards and pages are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from napari_sparseseg.training.anatomy import STRUCTURES


@dataclass(frozen=True)
class Task:
    """A segmentation task.

    Attributes
    ----------
    name, title : str
        Identifier, which the names of its models begin with, and the name for people.
    modality : str
        Scans that its models are for, in words.
    license : str
        SPDX identifier of the licence of the weights.
    classes, colors : tuple of str
        Class names and "#rrggbb" colours; index 0 is background.
    data : str
        Training data, its source and licence, in Markdown. Braces hold the numbers of cases.
    reference : str
        What others reach on this task, in Markdown; "" if nothing comparable is known.
    limits : str
        What its models cannot do, in Markdown.
    """

    name: str
    title: str
    modality: str
    license: str
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    data: str
    reference: str
    limits: str


_HEADS = """\
Twenty whole-head label maps at 1 mm (SynthSeg; Billot et al., Medical Image Analysis 2023;
Apache-2.0), {val} of them held out for validation. No real scan was used for training:
every training image is synthesised from a label map (random affine and elastic deformation, a
Gaussian intensity for each tissue, bias field, blur or thick slices, noise; 60 to 70 % without the
skull), after SynthSeg. **Contrasts seen:** T1-like only (white matter brighter than grey matter,
grey matter brighter than fluid, with jitter).
"""
_HEAD_LIMITS = """\
* Other contrasts (T2, FLAIR, proton density), contrast agents, tumours, lesions, surgery, and
  infants were not trained on. White-matter lesions count as white matter.
* Left and right are not told apart.
* **CSF** is all fluid around the brain, as in the training maps. FreeSurfer's label 24, against
  which `brain-t1` is measured, is a far smaller region, so this Dice is near zero by definition
  and pulls the mean over 17 structures down; the mean over the other 16 stands beside it.
* The labels of `brain-t1` were made by FreeSurfer, not by hand: the figures state agreement.
"""
_HIPPOCAMPI = """\
Task 4 of the Medical Segmentation Decathlon (Simpson et al., arXiv:1902.09063; CC-BY-SA 4.0):
T1-weighted MR cut around one hippocampus, 1 mm, with manual labels of its anterior and posterior
part. {train} scans for training, {val} for validation and {test} for the test, by a split of our
own. The data set does not say which scans are of the same person, so they count as independent.
"""
_HIPPOCAMPUS_LIMITS = """\
* The scan must be cut around one hippocampus, as the training scans are (about 35 x 50 x 36 mm). A
  whole head is cut into windows that the model has never seen the like of.
* Trained and tested on one data set: other scanners, contrasts and diseases were not seen.
* The weights were trained on data under a share-alike licence and carry that licence:
  CC-BY-SA 4.0, with the data set named as its source.
"""
_HEADS_AND_NECKS = """\
Planning CTs of patients with head and neck cancer and their clinical contours, from OpenKBP
(Babier et al., Medical Physics 2021; MIT licence), 128x128x128 voxels of about 3.9 x 3.9 x 2.5 mm:
the {train} training and {val} validation patients with all four organs drawn, and {test} patients
for the test, by the split of the data set. Outside the body the images are air. A mirrored scan
with left and right exchanged counts as one more sample.
"""
_HEAD_AND_NECK_LIMITS = """\
* The scan must be in Hounsfield units and show the head and neck. Children, missing or resected
  glands, contrast agents and metal were not looked at apart.
* The contours are clinical ones by many planners at a coarse resolution (a target has about 550
  voxels): small differences of Dice are noise, and a structure ends where the planner stopped.
* Not for radiotherapy planning.
"""


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="brain-mr",
            title="Whole brain MR",
            modality="T1-weighted MR of the head, with or without the skull",
            license="Apache-2.0",
            classes=tuple(STRUCTURES),
            # neighbours in the brain differ in hue
            colors=(
                "#000000", "#f2f2f2", "#cd6d4f", "#7a3fd1", "#e8d9a0", "#e0954a", "#1fa35c",
                "#66b2ff", "#ff5fa2", "#2c6bd6", "#d23be0", "#9c5cff", "#a8a8a8", "#ffd92e",
                "#37d0d0", "#ff9d00", "#8f7a45", "#4653c4",
            ),
            data=_HEADS,
            reference="",
            limits=_HEAD_LIMITS,
        ),
        Task(
            name="hippocampus-mr",
            title="Hippocampus MR",
            modality="T1-weighted MR cut around one hippocampus",
            license="CC-BY-SA-4.0",
            classes=("background", "anterior hippocampus", "posterior hippocampus"),
            colors=("#000000", "#ffd92e", "#37d0d0"),
            data=_HIPPOCAMPI,
            reference=(
                "For comparison, nnU-Net reaches about 0.90 (anterior) and 0.89 (posterior) on "
                "this task, with far longer training and on another split."
            ),
            limits=_HIPPOCAMPUS_LIMITS,
        ),
        Task(
            name="headneck-ct",
            title="Head and neck CT",
            modality="CT of the head and neck in Hounsfield units",
            license="MIT",
            classes=("background", "brainstem", "spinal cord", "right parotid", "left parotid"),
            colors=("#000000", "#37d0d0", "#ffd92e", "#ff5fa2", "#9c5cff"),
            data=_HEADS_AND_NECKS,
            reference="",
            limits=_HEAD_AND_NECK_LIMITS,
        ),
    )
}  # fmt: skip
"""Every task by its name."""
