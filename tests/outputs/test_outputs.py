"""What is refused before a run starts: a long run must not end in a file that cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sparseseg.errors import OutputError
from napari_sparseseg.outputs import Outputs
from tests.outputs.series import write_series


@pytest.mark.parametrize(
    ("tags", "match"),
    [({"ImagePositionPatient": None}, "one slice with its place"), (None, "Only for a scan")],
)
def test_a_dicom_segmentation_that_no_series_allows_is_refused_before_the_run(
    tmp_path: Path, tags: dict[str, Any] | None, match: str
) -> None:
    voxels = np.zeros((3, 3, 2), np.int16)
    files = [] if tags is None else write_series(tmp_path, voxels, np.eye(4), **tags)

    with pytest.raises(OutputError, match=match):
        Outputs(tmp_path / "out.dcm", source=tuple(files)).check()


def test_a_dicom_segmentation_may_not_replace_a_slice_of_its_series(tmp_path: Path) -> None:
    files = write_series(tmp_path, np.zeros((3, 3, 2), np.int16), np.eye(4))
    Outputs(tmp_path / "out.dcm", source=tuple(files)).check()

    with pytest.raises(OutputError, match="is the scan itself"):
        Outputs(files[1], source=tuple(files), overwrite=True).check()
