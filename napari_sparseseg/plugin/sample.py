"""Sample data: the ICBM152 T1 template, from the file that nilearn carries."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import read_volume
from napari_sparseseg.plugin.readers import LayerData, image_layer
from napari_sparseseg.volume import Volume

NAME = "ICBM152 T1"
_FILE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"


def icbm152_t1() -> list[LayerData]:
    """Return the symmetric ICBM152 2009a T1 template at 1 mm as napari layer data.

    Raises
    ------
    InputError
        If nilearn, or its file, is not there.
    """
    path = template_path()
    scan = read_volume(path)
    return [image_layer(Volume(scan.data, scan.affine, NAME), str(path))]


def template_path() -> Path:
    """Return where the template lies; nilearn itself, which is slow to import, is not.

    Raises
    ------
    InputError
        If nilearn, or its file, is not there.
    """
    spec = find_spec("nilearn")
    path = Path(spec.origin).parent / _FILE if spec is not None and spec.origin else None
    if path is None or not path.exists():
        raise InputError(
            "The ICBM152 T1 sample comes with nilearn, which was not found; install it with "
            "'pip install napari-sparseseg[sample]'."
        )
    return path
