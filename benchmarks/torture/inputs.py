"""Files of every format, number type and byte order, sound and damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.torture.rows import Row
from benchmarks.torture.suites import tested
from benchmarks.torture.torture import Torture
from napari_sparseseg.files import read_volume

TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
AFFINE = np.array([[-0.8, 0, 0, 20.5], [0, 0, 1.5, -15], [0, -1.1, 0, 31], [0, 0, 0, 1]])
_SHAPE = (7, 6, 5)

Writer = Callable[[NDArray, Path], None]
"""Writes voxels, in their own byte order, with :data:`AFFINE`."""


def measure(torture: Torture) -> Iterator[Row]:
    """Read sound files, then the same files damaged, then run what the tests know of inputs."""
    for name, write in WRITERS.items():
        yield _types(name, write, torture.folder)
    for name, write in WRITERS.items():
        yield from _damaged(name, write, torture.folder, torture.share(200, least=20))
    yield from tested(torture, "files/test_*.py", "dicom/test_*.py")


def _types(name: str, write: Writer, folder: Path) -> Row:
    """Write each number type in both byte orders, and compare all that is read."""
    row = Row(f"{name}: {len(TYPES)} number types, little and big endian")
    for order in "<>":
        for kind in TYPES:
            data = _voxels(np.dtype(order + kind))
            write(data, folder / name)
            row.attempt(lambda data=data: _expect(data, folder / name))  # type: ignore[misc]
    return row


def _expect(data: NDArray, path: Path) -> None:
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.data, data)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)
    assert volume.data.dtype.isnative, "voxels in a foreign byte order"


def _voxels(kind: np.dtype) -> NDArray:
    limits = (-900.5, 900.5) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    spread = np.linspace(0, 1, np.prod(_SHAPE)).reshape(_SHAPE)
    middle = [limits[0] / 2, limits[1] / 2]  # exact in double precision after rounding
    return np.round(middle[0] + spread * (middle[1] - middle[0])).astype(kind)


def _damaged(name: str, write: Writer, folder: Path, count: int) -> Iterator[Row]:
    """Cut a file short, change its bytes, and put other things in its place."""
    path = folder / name
    write(_voxels(np.dtype("<i2")), path)
    whole, random = path.read_bytes(), np.random.default_rng(0)

    def spoil(what: str, contents: Iterator[bytes]) -> Row:
        row = Row(f"{name}: {what}")
        for content in contents:
            path.write_bytes(content)
            row.attempt(lambda: read_volume(path))
        return row

    yield spoil("cut short", (whole[: len(whole) * n // count] for n in range(count)))
    yield spoil("one byte changed", (_changed(whole, random, 1) for _ in range(count)))
    yield spoil("twenty bytes changed", (_changed(whole, random, 20) for _ in range(count)))
    others = (b"", b"\0" * 400, b"\x1f\x8b", b"GIF89a" * 99, random.bytes(2000), whole + whole)
    yield spoil("other content", iter(others))


def _changed(content: bytes, random: np.random.Generator, count: int) -> bytes:
    changed = bytearray(content)
    for place in random.integers(0, len(content), count):
        changed[place] = random.integers(256)
    return bytes(changed)


def _nifti(version: str) -> Writer:
    def write(data: NDArray, path: Path) -> None:
        import nibabel as nib

        image_class = getattr(nib, f"Nifti{version}Image")
        header = image_class.header_class(endianness=data.dtype.byteorder.replace("=", "<"))
        header.set_data_dtype(data.dtype)
        image = image_class(data, AFFINE, header)
        image.set_sform(AFFINE, code=1)
        nib.save(image, path)

    return write


def _nrrd(data: NDArray, path: Path) -> None:
    kind = {"u": "uint", "i": "int"}.get(data.dtype.kind, "")
    names = {"f4": "float", "f8": "double"}
    word = names.get(data.dtype.str[1:]) or f"{kind}{8 * data.dtype.itemsize}"
    columns = " ".join(f"({','.join(map(str, column[:3]))})" for column in AFFINE.T[:3])
    header = (
        f"NRRD0004\ntype: {word}\ndimension: 3\nspace: right-anterior-superior\n"
        f"sizes: {' '.join(map(str, data.shape))}\nspace directions: {columns}\n"
        f"endian: {_endian(data)}\nencoding: raw\n"
        f"space origin: ({','.join(map(str, AFFINE[:3, 3]))})\n\n"
    )
    path.write_bytes(header.encode() + data.tobytes(order="F"))


def _metaimage(data: NDArray, path: Path) -> None:
    names = {"i1": "CHAR", "i2": "SHORT", "i4": "INT", "i8": "LONG_LONG"}
    words = {"f4": "FLOAT", "f8": "DOUBLE", **names}
    words |= {f"u{kind[1:]}": f"U{word}" for kind, word in names.items()}
    words["u8"] = "ULONG_LONG"
    lps = np.diag([-1.0, -1, 1]) @ AFFINE[:3]
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\n"
        f"BinaryDataByteOrderMSB = {_endian(data) == 'big'}\nCompressedData = False\n"
        f"TransformMatrix = {' '.join(map(str, (lps[:, :3] / spacing).T.ravel()))}\n"
        f"Offset = {' '.join(map(str, lps[:, 3]))}\n"
        f"ElementSpacing = {' '.join(map(str, spacing))}\n"
        f"DimSize = {' '.join(map(str, data.shape))}\n"
        f"ElementType = MET_{words[data.dtype.str[1:]]}\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(header.encode() + data.tobytes(order="F"))


def _endian(data: NDArray) -> str:
    return "big" if data.dtype.byteorder == ">" else "little"


WRITERS: dict[str, Writer] = {
    "nifti1.nii": _nifti("1"),
    "nifti1.nii.gz": _nifti("1"),
    "nifti2.nii": _nifti("2"),
    "nrrd.nrrd": _nrrd,
    "metaimage.mha": _metaimage,
}
"""Writers that share no code with the project's own, by the name of the file."""
