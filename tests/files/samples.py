"""Small valid files of every format, and what tests of reading share."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.errors import InputError
from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.volume import Volume

OBLIQUE = np.array(
    [
        [0.0, -1.6, 0.9, 11.0],
        [0.5, 0.0, 0.0, -70.25],
        [0.0, 1.2, 1.2, 3.5],
        [0.0, 0.0, 0.0, 1.0],
    ]
)  # spacing 0.5, 2.0, 1.5 mm; rotated in the R-S plane


def make_volume(dtype: str = "int16", shape: tuple[int, ...] = (7, 6, 5)) -> Volume:
    """Give a volume of random values below 200, obliquely placed."""
    data = np.random.default_rng(0).integers(0, 200, size=shape).astype(dtype)
    return Volume(data, OBLIQUE, "scan")


def itk_image(
    pixel: int = sitk.sitkInt16, size: tuple[int, ...] = (7, 6, 5), seed: int = 1
) -> sitk.Image:
    """Give an image placed by ITK's own means: LPS, direction cosines."""
    data = np.random.default_rng(seed).integers(0, 200, size=size[::-1])
    image = sitk.Cast(sitk.GetImageFromArray(data), pixel)
    image.SetSpacing((0.5, 2.0, 1.5))
    image.SetOrigin((-11.0, 70.25, 3.5))
    image.SetDirection((0.0, 0.8, -0.6, -1.0, 0.0, 0.0, 0.0, 0.6, 0.8))
    return image


def write_samples(folder: Path, shape: tuple[int, ...] = (7, 6, 5)) -> dict[str, Path]:
    """Write one small valid file of every format that can be read.

    Parameters
    ----------
    folder : pathlib.Path
        An existing empty folder.
    shape : tuple of int
        Number of voxels along each axis.

    Returns
    -------
    dict of str to pathlib.Path
        What a file is, to the file to read; what lies beside some of them belongs to them.
    """
    volume = make_volume(shape=shape)
    files = {
        "nifti": folder / "nifti.nii",
        "nifti packed": folder / "packed.nii.gz",
        "nrrd packed": folder / "packed.nrrd",
        "metaimage packed": folder / "packed.mha",
    }
    for path in files.values():
        write_volume(volume, path)
    files["nifti 2"] = folder / "second.nii"
    nib.save(nib.Nifti2Image(volume.data, OBLIQUE), files["nifti 2"])
    files["nifti pair"] = folder / "pair.hdr"
    nib.save(nib.Nifti1Pair(volume.data, OBLIQUE), folder / "pair.img")
    files["analyze"] = folder / "analyze.img"
    nib.save(nib.AnalyzeImage(volume.data, np.diag([-1.0, 1, 1, 1])), files["analyze"])
    image = itk_image(size=shape)
    for what, name in {
        "nrrd": "plain.nrrd",
        "nrrd detached": "nrrd.nhdr",
        "metaimage": "plain.mha",
        "metaimage detached": "meta.mhd",
    }.items():
        files[what] = folder / name
        sitk.WriteImage(image, folder / name)
    return files


def nrrd_file(
    path: Path, *fields: str, content: bytes = bytes(48), magic: str = "NRRD0005"
) -> Path:
    """Write a NRRD file of 2 x 3 x 4 voxels (int16), unless its fields say otherwise."""
    given = dict(field.split(": ", 1) for field in fields)
    usual = {
        "type": "int16",
        "dimension": "3",
        "sizes": "2 3 4",
        "encoding": "raw",
        "endian": "little",
    }
    lines = [f"{key}: {value}" for key, value in (usual | given).items()]
    path.write_bytes("\n".join([magic, *lines, "", ""]).encode() + content)
    return path


def metaimage_file(path: Path, *fields: str, content: bytes = bytes(48)) -> Path:
    """Write a MetaImage of 2 x 3 x 4 voxels (int16), unless its fields say otherwise."""
    given = dict(field.split(" = ", 1) for field in fields)
    usual = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": "1 0 0 0 1 0 0 0 1",
        "Offset": "10 20 30",
        "ElementSpacing": "1 2 3",
        "DimSize": "2 3 4",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    fields_of = usual | given
    fields_of["ElementDataFile"] = fields_of.pop("ElementDataFile")  # the last one always
    path.write_bytes("".join(f"{k} = {v}\n" for k, v in fields_of.items()).encode() + content)
    return path


def assert_one_sentence(error: Exception) -> None:
    """Check that a message says what is wrong and what to do, in one sentence."""
    message = str(error)
    assert message.endswith(".") and ". " not in message and "\n" not in message
    assert ";" in message  # what is wrong; what to do


def refused(path: Path, match: str, part: str = "") -> None:
    """Check that reading a file is refused in one sentence that names it."""
    with pytest.raises(InputError, match=match) as caught:
        read_volume(path, part=part)
    assert_one_sentence(caught.value)
    assert path.name in str(caught.value)


def assert_same_place(image: sitk.Image, volume: Volume) -> None:
    """Check that some voxels of a 3-D image lie where ITK says, with ITK's values."""
    assert volume.shape == image.GetSize()
    for index in [(0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (3, 2, 1)]:
        left, posterior, superior = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(
            volume.affine @ [*index, 1], [-left, -posterior, superior, 1], atol=1e-4
        )
        assert volume.data[index] == image[index]
