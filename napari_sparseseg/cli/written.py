"""Options for what ``sparseseg segment`` writes beside the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NamesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.tsv",
        help="File to write what the values of the label map stand for to: index, name and color, "
        "as BIDS has it. NRRD and DICOM segmentations hold this themselves.",
        show_default=False,
    ),
]
ProbabilitiesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.nii.gz",
        help="File to write the class probabilities (0 to 1) to that the labels are made from, as "
        "32 bit NIfTI on the scan's own grid, classes along the fourth axis: 4 bytes per voxel "
        "and class before compression.",
        show_default=False,
    ),
]
ProbabilityOfOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="With --probabilities: write this class alone, which makes a 3D file; given several "
        "times, these classes in this order. If left out, all, beginning with background.",
        show_default=False,
    ),
]
