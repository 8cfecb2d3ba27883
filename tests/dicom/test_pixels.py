"""The values of DICOM slices: every transfer syntax that is read, and what becomes of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    JPEG2000,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from napari_sparseseg.files import read_volume
from tests.dicom.series import (
    NATIVE,
    Change,
    assert_refused,
    compressed,
    header,
    only_part,
    pixels,
    values,
    write_series,
)

BY_PYDICOM = (RLELossless, JPEGLSLossless)
BY_ITK = {
    JPEG2000Lossless: "JPEG2000",
    JPEG2000: "JPEG2000",
    JPEGLosslessSV1: "JPEG",
    JPEGLossless: "JPEG",
}


def itk_frame(plane: np.ndarray, compressor: str, path: Path) -> bytes:
    """Compress one slice with GDCM."""
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(sitk.GetImageFromArray(plane[None]))
    return get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)


def jpeg(plane: np.ndarray, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(plane).save(stream, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return stream.getvalue()


def compressing(syntax: str, tmp_path: Path) -> Change:
    """Compress each slice losslessly."""

    def change(_: int, item: Dataset) -> None:
        kind = f"{'i' if item.PixelRepresentation else 'u'}2"
        plane = np.frombuffer(item.PixelData, kind).reshape(item.Rows, item.Columns)
        if syntax in BY_ITK:
            compressed(item, syntax, itk_frame(plane, BY_ITK[syntax], tmp_path / "one.dcm"))
        else:
            item.compress(syntax, generate_instance_uid=False)

    return change


@pytest.mark.parametrize("kind", ["int16", "uint16", "uint8"])
@pytest.mark.parametrize("syntax", NATIVE)
def test_uncompressed_syntaxes(tmp_path: Path, syntax: str, kind: str) -> None:
    data = (values() % 250 - 100 * (kind == "int16")).astype(kind)
    write_series(tmp_path, data, syntax=syntax)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, data)
    assert volume.data.dtype == np.int16 and volume.notes == ()


@pytest.mark.parametrize("kind", ["int16", "uint16"])
@pytest.mark.parametrize("syntax", [*BY_PYDICOM, *BY_ITK])
def test_lossless_syntaxes(tmp_path: Path, syntax: str, kind: str) -> None:
    data = (values((20, 18, 4)) - 900 * (kind == "int16")).astype(kind)
    folder = tmp_path / "series"
    change = compressing(syntax, tmp_path)
    for path in write_series(folder, data, syntax=syntax, change=change):
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_volume(folder).data, data)


def test_near_lossless_jpeg_ls(tmp_path: Path) -> None:
    def change(_: int, item: Dataset) -> None:
        item.compress(JPEGLSNearLossless, jls_error=3, generate_instance_uid=False)

    data = values((20, 18, 4)).astype("uint16")
    write_series(tmp_path, data, syntax=JPEGLSNearLossless, change=change)
    read = read_volume(tmp_path).data
    assert 0 < abs(read - data.astype(int)).max() <= 3


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit])
def test_lossy_jpeg_of_eight_bits(tmp_path: Path, syntax: str) -> None:
    slope = np.add.outer(np.arange(40), 2 * np.arange(36)).astype("uint8")
    data = np.stack([slope, slope + 9, slope + 30], axis=2)

    def change(_: int, item: Dataset) -> None:
        plane = np.frombuffer(item.PixelData, "u1").reshape(item.Rows, item.Columns)
        compressed(item, syntax, jpeg(plane))

    write_series(tmp_path, data, syntax=syntax, change=change)
    assert abs(read_volume(tmp_path).data - data.astype(int)).max() <= 3


def test_lossy_jpeg_of_twelve_bits(tmp_path: Path) -> None:
    source = pydicom.dcmread(get_testdata_file("JPGExtended.dcm", download=False))
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(source.filename)))[0]
    frame = get_frame(source.PixelData, 0, number_of_frames=1)

    def change(_: int, item: Dataset) -> None:
        item.BitsStored, item.HighBit = 12, 11
        compressed(item, JPEGExtended12Bit, frame)

    data = np.zeros((*expected.T.shape, 2), "uint16")
    write_series(tmp_path, data, syntax=JPEGExtended12Bit, change=change)
    read = read_volume(tmp_path).data
    assert expected.max() > 255
    np.testing.assert_array_equal(read[:, :, 0], expected.T)


def test_an_unreadable_syntax_is_refused_by_name(tmp_path: Path) -> None:
    def change(_: int, item: Dataset) -> None:
        compressed(item, HTJ2KLossless, b"\xff\x4f\xff\x51")

    write_series(tmp_path, values(), syntax=HTJ2KLossless, change=change)
    assert "High-Throughput JPEG 2000" in only_part(tmp_path).problem
    assert_refused(tmp_path, "export it uncompressed")


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGLSLossless, JPEGBaseline8Bit, JPEG2000Lossless]
)
def test_a_frame_of_another_size_than_its_header_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    """A few bytes may unpack to gigabytes: they are not even tried."""
    decode, tried = pydicom.pixels.pixel_array, []

    def spy(item: Dataset, **options: bool) -> np.ndarray:
        tried.append(item)
        return decode(item, **options)

    monkeypatch.setattr(pydicom.pixels, "pixel_array", spy)

    def change(k: int, item: Dataset) -> None:
        large = Dataset()
        pixels(large, np.zeros((3000, 4000) if k == 1 else (8, 9), "uint8"))
        plane = np.frombuffer(large.PixelData, "u1").reshape(large.Rows, large.Columns)
        if syntax in (JPEGBaseline8Bit, JPEG2000Lossless):
            compressed(item, syntax, jpeg(plane, "JPEG" if "4.50" in syntax else "JPEG2000"))
        else:
            large.file_meta = pydicom.dataset.FileMetaDataset()
            large.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
            large.SOPInstanceUID, large.SOPClassUID = "1.2.3", "1.2.3"
            large.compress(syntax, generate_instance_uid=False)
            compressed(item, syntax, get_frame(large.PixelData, 0, number_of_frames=1))

    write_series(tmp_path, values((9, 8, 3)).astype("uint8"), syntax=syntax, change=change)
    assert not only_part(tmp_path).problem
    assert_refused(tmp_path, "pixels are damaged or cut short")
    assert len(tried) == 1  # the slice before it


@pytest.mark.parametrize("syntax", [*NATIVE, *BY_PYDICOM, *BY_ITK])
@pytest.mark.parametrize("share", [0.4, 0.95])
def test_pixels_that_are_cut_short_are_refused(tmp_path: Path, syntax: str, share: float) -> None:
    folder = tmp_path / "series"
    change = None if syntax in NATIVE else compressing(syntax, tmp_path)
    path = write_series(folder, values((60, 50, 4)), syntax=syntax, change=change)[1]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    # Where all of a file is packed, nothing can be known of one that is cut short.
    assert_refused(folder, "1 slice is missing" if syntax == NATIVE[2] else "damaged or cut short")


def test_whole_hounsfield_units_stay_whole(tmp_path: Path) -> None:
    def change(_: int, item: Dataset) -> None:
        item.RescaleSlope, item.RescaleIntercept = "1", "-1024"

    write_series(tmp_path, values().astype("uint16"), stored=12, change=change)
    read = read_volume(tmp_path).data
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, values() - 1024)


def test_every_slice_is_scaled_by_its_own_slope(tmp_path: Path) -> None:
    def change(k: int, item: Dataset) -> None:
        item.RescaleSlope, item.RescaleIntercept = f"{0.25 + 0.1 * k:.2f}", f"{k}"

    write_series(tmp_path, values(), shared=header("PT"), change=change)
    read = read_volume(tmp_path).data
    k = np.arange(7)
    np.testing.assert_allclose(read, values() * (0.25 + 0.1 * k) + k, rtol=1e-6)
    assert read.dtype == np.float32
    expected = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    np.testing.assert_allclose(read.T[0], sitk.GetArrayFromImage(expected)[0], rtol=1e-6)


def test_values_too_large_for_short_ones_are_not_wrapped(tmp_path: Path) -> None:
    data = values().astype("uint16") * 30
    write_series(tmp_path, data)
    read = read_volume(tmp_path).data
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, data)


@pytest.mark.parametrize("kind", ["uint16", "int16"])
@pytest.mark.parametrize("syntax", [NATIVE[1], NATIVE[3], RLELossless, JPEGLosslessSV1])
def test_bits_above_those_in_use_do_not_count(tmp_path: Path, syntax: str, kind: str) -> None:
    data = (values() - 1000 * (kind == "int16")).astype(kind)

    def change(k: int, item: Dataset) -> None:
        stored = np.frombuffer(item.PixelData, "u2")
        item.PixelData = ((stored & 0x0FFF) | 0xA000).tobytes()
        if syntax not in NATIVE:
            compressing(syntax, tmp_path)(k, item)

    folder = tmp_path / "series"
    write_series(folder, data, syntax=syntax, stored=12, change=change)
    np.testing.assert_array_equal(read_volume(folder).data, data)


@pytest.mark.parametrize("syntax", [NATIVE[0], NATIVE[1], NATIVE[3]])
@pytest.mark.parametrize("written", ["SS", "US"])
def test_padding_of_a_ct_becomes_air(tmp_path: Path, syntax: str, written: str) -> None:
    data = values() - 900
    data[0], data[:, 0] = -2000, -2000
    padded = data == -2000

    def change(_: int, item: Dataset) -> None:
        item.add_new("PixelPaddingValue", written, -2000 if written == "SS" else 63536)
        item.RescaleSlope, item.RescaleIntercept = 1, 24

    write_series(tmp_path, data, syntax=syntax, change=change)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.data, np.where(padded, -1000, data + 24))
    assert volume.notes == (
        f"{padded.sum()} voxels lie outside the field of view (padding) and became -1000, air.",
    )


def test_a_range_of_padding_becomes_the_smallest_value(tmp_path: Path) -> None:
    data = values() + 100
    data[0], data[:, 0] = 5000, 5001
    padded = data >= 5000

    def change(_: int, item: Dataset) -> None:
        item.add_new("PixelPaddingValue", "SS", 5002)
        item.add_new("PixelPaddingRangeLimit", "SS", 5000)

    write_series(tmp_path, data, shared=header("MR"), change=change)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(
        volume.data, np.where(padded, data.min(where=~padded, initial=9999), data)
    )
    assert f"{padded.sum()} voxels" in volume.notes[0]


def test_a_slice_of_padding_alone_is_filled_too(tmp_path: Path) -> None:
    data = values() + 100
    data[:, :, 0] = -32768

    def change(_: int, item: Dataset) -> None:
        item.add_new("PixelPaddingValue", "SS", -32768)

    write_series(tmp_path, data, shared=header("MR"), change=change)
    read = read_volume(tmp_path).data
    np.testing.assert_array_equal(read[:, :, 0], data[:, :, 1:].min())
    np.testing.assert_array_equal(read[:, :, 1:], data[:, :, 1:])


def test_an_inverted_scan_is_turned_over_with_a_note(tmp_path: Path) -> None:
    def change(_: int, item: Dataset) -> None:
        item.PhotometricInterpretation = "MONOCHROME1"

    write_series(tmp_path / "mr", values(), shared=header("MR"), change=change)
    volume = read_volume(tmp_path / "mr")
    data = values()
    np.testing.assert_array_equal(volume.data, int(data.min()) + int(data.max()) - data)
    assert "turned over" in volume.notes[0]

    write_series(tmp_path / "ct", values(), change=change)
    volume = read_volume(tmp_path / "ct")
    np.testing.assert_array_equal(volume.data, data)
    assert "left as they are" in volume.notes[0]


def test_a_real_ct_agrees_with_itk(data_dir: Path, tmp_path: Path) -> None:
    scan = read_volume(data_dir / "abdomen-ct" / "example_ct.nii.gz")
    data = np.rint(scan.data).astype(np.int16)
    write_series(tmp_path, data, scan.affine, syntax=JPEGLSLossless,
                 change=compressing(JPEGLSLossless, tmp_path))  # fmt: skip
    volume = read_volume(tmp_path)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    expected = sitk.ReadImage(names)
    np.testing.assert_array_equal(volume.data.T, sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(volume.spacing, expected.GetSpacing(), atol=1e-5)
    assert volume.data.dtype == np.int16
