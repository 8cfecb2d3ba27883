"""Memory: voxels left in their file, and what reading takes at its peak."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from napari_sparseseg.files import read_volume, write_volume
from napari_sparseseg.volume import Volume
from tests.files.samples import make_volume, metaimage_file, nrrd_file, write_samples

MAPPED = {"nifti", "nifti 2", "nifti pair", "analyze"}  # others begin where their header ends


def test_mapped_or_not_a_volume_is_the_same(tmp_path: Path) -> None:
    for what, path in write_samples(tmp_path).items():
        loaded, mapped = read_volume(path), read_volume(path, mapped=True)
        np.testing.assert_array_equal(mapped.data, loaded.data, what)
        np.testing.assert_array_equal(mapped.affine, loaded.affine)
        assert (mapped.notes, mapped.name) == (loaded.notes, loaded.name)
        assert mapped.data.dtype == loaded.data.dtype and mapped.data.flags.f_contiguous
        assert not is_mapped(loaded.data)
        assert is_mapped(mapped.data) or what not in MAPPED, what


def is_mapped(data: np.ndarray | None) -> bool:
    while data is not None and not isinstance(data, np.memmap):
        data = data.base if isinstance(data.base, np.ndarray) else None
    return data is not None


@pytest.mark.parametrize("frame", ["1", "3"])
def test_a_frame_can_be_mapped(tmp_path: Path, frame: str) -> None:
    data = np.random.default_rng(0).integers(0, 99, (7, 6, 5, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "film.nii")
    volume = read_volume(tmp_path / "film.nii", part=frame, mapped=True)
    np.testing.assert_array_equal(volume.data, data[..., int(frame) - 1])
    assert is_mapped(volume.data)


def test_the_voxels_behind_a_header_of_any_length(tmp_path: Path) -> None:
    """Numbers at odd places of a file are not mapped: not every program can use such an array."""
    values = np.arange(24, dtype="<i2")
    found = set()
    for n in range(2):
        for path in (
            nrrd_file(
                tmp_path / "a.nrrd",
                "spacings: 1 1 1",
                f"content: {'x' * n}",
                content=values.tobytes(),
            ),
            metaimage_file(
                tmp_path / "a.mha", f"Comment = {'x' * (n + 1)}", content=values.tobytes()
            ),
        ):
            volume = read_volume(path, mapped=True)
            np.testing.assert_array_equal(volume.data.ravel(order="F"), values)
            assert volume.data.flags.aligned
            found.add((path.name, is_mapped(volume.data)))
    assert len(found) == 4


@pytest.mark.parametrize("why", ["packed", "scaled", "big-endian"])
def test_what_the_file_does_not_hold_as_it_is_is_loaded(tmp_path: Path, why: str) -> None:
    header = nib.Nifti1Header(endianness=">" if why == "big-endian" else "<")
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(make_volume().data, np.eye(4), header)
    content = bytearray(image.to_bytes())
    if why == "scaled":
        content[112:120] = np.array([2, 1], np.float32).tobytes()
    path = tmp_path / "scan.nii"
    path.write_bytes(content)
    if why == "packed":
        path = tmp_path / "scan.nii.gz"
        write_volume(make_volume(), path)
    volume = read_volume(path, mapped=True)
    expected = make_volume().data * 2.0 + 1 if why == "scaled" else make_volume().data
    np.testing.assert_array_equal(volume.data, expected)
    assert not is_mapped(volume.data)


def test_a_change_of_a_mapped_volume_does_not_reach_the_file(tmp_path: Path) -> None:
    path = write_samples(tmp_path)["nifti"]
    content = path.read_bytes()
    read_volume(path, mapped=True).data[:] = 7
    assert path.read_bytes() == content


def test_a_mapped_volume_takes_no_memory_of_its_own(tmp_path: Path) -> None:
    data = np.zeros((200, 200, 200), np.int16)
    data[100] = 1
    write_volume(Volume(data, np.eye(4)), tmp_path / "scan.nii")
    read_volume(write_samples(tmp_path)["nifti"])
    tracemalloc.start()
    try:
        volume = read_volume(tmp_path / "scan.nii", mapped=True)
        assert volume.validated() is volume
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < data.nbytes / 4


READING = """
import sys
from napari_sparseseg.files import read_volume

def highest():  # MiB of this process at its peak
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

small, *large = sys.argv[1:]
read_volume(small)
before = highest()
for path in large:
    size = read_volume(path).validated().data.nbytes / 2**20
print((highest() - before) / size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc/self/status")
def test_reading_takes_the_memory_of_its_voxels_and_little_more(tmp_path: Path) -> None:
    """64 MiB of float voxels from every kind of file: stored, packed, scaled."""
    data = np.zeros((256, 256, 256), np.float32)
    data[::2, ::3, ::5] = 1
    files = [tmp_path / name for name in ("a.nii", "a.nii.gz", "a.nrrd", "a.mha")]
    for path in files:
        write_volume(Volume(data, np.eye(4)), path)
    raw = sitk.GetImageFromArray(data.T)
    sitk.WriteImage(raw, tmp_path / "b.nrrd")
    scaled = nib.Nifti1Image(data.astype(np.int16), np.eye(4))
    content = bytearray(scaled.to_bytes())
    content[112:120] = np.array([0.5, 3], np.float32).tobytes()
    (tmp_path / "scaled.nii").write_bytes(content)
    large = [*files, tmp_path / "b.nrrd", tmp_path / "scaled.nii"]
    (tmp_path / "small").mkdir()
    small = tmp_path / "small" / "a.mha"
    write_volume(make_volume(), small)
    done = subprocess.run(
        [sys.executable, "-c", READING, small, *large], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 1.6  # nibabel alone takes a few MiB more than the first file did
