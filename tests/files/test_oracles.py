"""Any scan: what is read is what ITK and nibabel read, voxel by voxel, in the same place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.quaternions import quat2mat

from napari_sparseseg.files import READABLE, SUFFIXES, read_volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
PIXELS = [
    getattr(sitk, f"sitk{name}")
    for name in ("Int8", "UInt8", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64")
] + [sitk.sitkFloat32, sitk.sitkFloat64]

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
spacings = st.tuples(*[st.floats(0.05, 50)] * 3)
places = st.tuples(*[st.floats(-2000, 2000)] * 3)
sizes = st.tuples(*[st.integers(1, 7)] * 3)


@st.composite
def rotations(draw: st.DrawFn) -> np.ndarray:
    """Give any rotation, and mirrored ones."""
    parts = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 4)))
    length = np.linalg.norm(parts)
    turned = quat2mat(parts / length) if length > 0.1 else np.eye(3)
    return turned * draw(st.sampled_from([(1, 1, 1), (-1, 1, 1), (1, 1, -1)]))


@st.composite
def images(draw: st.DrawFn) -> sitk.Image:
    """Give an image of any type, size and place."""
    size, seed = draw(sizes), draw(st.integers(0, 99))
    data = np.random.default_rng(seed).integers(0, 120, size[::-1])
    image = sitk.Cast(sitk.GetImageFromArray(data), draw(st.sampled_from(PIXELS)))
    image.SetSpacing(draw(spacings))
    image.SetOrigin(draw(places))
    image.SetDirection(draw(rotations()).ravel().tolist())
    return image


def affine_of(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS_TO_RAS @ affine


@quick
@given(image=images(), suffix=st.sampled_from(READABLE), packed=st.booleans())
def test_what_itk_writes_and_reads(
    tmp_path: Path, image: sitk.Image, suffix: str, packed: bool
) -> None:
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(image, path, useCompression=packed and suffix in SUFFIXES)
    volume, theirs = read_volume(path), sitk.ReadImage(path)
    values = sitk.GetArrayFromImage(image).T
    np.testing.assert_array_equal(volume.data, values)
    assert volume.data.dtype == values.dtype
    np.testing.assert_allclose(volume.affine, affine_of(theirs), rtol=1e-4, atol=2e-3)
    np.testing.assert_array_equal(read_volume(path, mapped=True).data, values)


@quick
@given(
    turned=rotations(),
    steps=spacings,
    place=places,
    size=sizes,
    codes=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    order=st.sampled_from("<>"),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair]),
)
def test_what_nibabel_writes_and_reads(
    tmp_path: Path,
    turned: np.ndarray,
    steps: tuple[float, ...],
    place: tuple[float, ...],
    size: tuple[int, ...],
    codes: tuple[int, int],
    order: str,
    kind: Any,
) -> None:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned * steps, place
    data = np.random.default_rng(0).integers(-120, 120, size).astype(np.int16)
    image = kind(data, None, kind.header_class(endianness=order))
    image.header.set_data_dtype(np.int16)
    image.header.set_qform(affine, codes[1])
    image.header.set_sform(np.diag([2.0, 2, 2, 1]) @ affine, codes[0])
    path = tmp_path / ("scan.img" if kind is nib.Nifti1Pair else "scan.nii")
    nib.save(image, path)
    volume, theirs = read_volume(path), nib.load(path)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, theirs.affine, rtol=1e-5, atol=1e-5)
    if not all(codes):  # the spacing contradicts the sform, or there is neither form
        assert len(volume.notes) == (codes[1] == 0)
