"""What results carry of a scan: its geometry and its voxels' labels, nothing of its patient."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK as sitk

from napari_sparseseg.cli import main
from napari_sparseseg.weights import ModelInfo
from tests.dicom.series import header, write_series
from tests.outputs.series import write_series as write_whole_series
from tests.quality.tiny import make_scan
from tests.worker.client import Host

MARK = "DOEJANE"
DAY = "19690720"

Run = Callable[..., str]


def nifti(path: Path) -> None:
    """Every text of a NIfTI header, and an extension, name the patient."""
    scan = make_scan()
    image = nib.Nifti1Image(scan.data, scan.affine)
    for key in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[key] = MARK
    text = f"{MARK} {DAY}".encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", text))
    nib.save(image, path)


def itk(path: Path) -> None:
    """A field of the header names the patient."""
    image = sitk.GetImageFromArray(make_scan().data.T)
    for key in ("PatientName", "0010|0010", "Comment"):
        image.SetMetaData(key, f"{MARK} {DAY}")
    sitk.WriteImage(image, str(path))


SCANS: dict[str, Callable[[Path], None]] = {
    "scan.nii.gz": nifti,
    "scan.nrrd": itk,
    "scan.mha": itk,
}


@pytest.fixture
def run(model: ModelInfo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """Give the command; it returns all that it says."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["sparseseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        assert not left.value.code, said.err
        return said.out + said.err

    return run


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Give every file of a folder, unpacked, and its name."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            yield f"the name of {path.name}", path.name.encode()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            yield path.name, content
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    yield from ((name, archive.read(name)) for name in archive.namelist())


def segment_all(run: Run, scan: Path, out: Path) -> str:
    """Make everything that the command line can make of a scan."""
    out.mkdir()
    options = ("--model", "tiny-stp", "--device", "cpu", "--precision", "float32")
    said = run(
        "segment", scan, out / "labels.nii.gz", *options,
        "--trace", out / "trace", "--report", out / "report.html",
    )  # fmt: skip
    said += run("sweep", scan, "--out", out / "sweep", "--ratios", "1,0.5", *options)
    labels = out / "labels.nii.gz"
    return said + run("compare", labels, labels, "--trace", out / "trace", "--json")


@pytest.mark.parametrize("name", SCANS)
def test_nothing_of_a_header_but_geometry_is_passed_on(run: Run, tmp_path: Path, name: str) -> None:
    scan = tmp_path / name
    SCANS[name](scan)
    content = gzip.decompress(scan.read_bytes()) if scan.suffix == ".gz" else scan.read_bytes()
    assert MARK.encode() in content

    (tmp_path / "out").mkdir()
    labels = tmp_path / "out" / f"labels{''.join(scan.suffixes)}"
    said = run("segment", scan, labels, "--model", "tiny-stp", "--device", "cpu",
               "--report", tmp_path / "out" / "run.json")  # fmt: skip

    assert MARK not in said and DAY not in said
    for what, content in contents(tmp_path / "out"):
        assert MARK.encode() not in content, what
        assert DAY.encode() not in content, what


def test_nothing_of_a_dicom_header_is_passed_on(run: Run, tmp_path: Path) -> None:
    shared = header("MR")
    shared.PatientName = shared.PatientID = shared.SeriesDescription = MARK
    shared.StudyDate = shared.PatientBirthDate = DAY
    out = tmp_path / "out"
    out.mkdir()
    write_series(tmp_path / MARK, make_scan().data.astype(np.int16), shared=shared)

    said = run("segment", tmp_path / MARK, out / "labels.seg.nrrd", "--model", "tiny-stp",
               "--trace", out / "trace", "--report", out / "run.json", "--names", out / "names.tsv",
               "--probabilities", out / "p.nii.gz")  # fmt: skip

    assert MARK not in said and DAY not in said
    for what, content in contents(out):
        assert MARK.encode() not in content and DAY.encode() not in content, what


def test_a_dicom_segmentation_repeats_the_patient_and_nothing_else_does(
    run: Run, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """The one exception, which the standard wants: it belongs to the study of its series."""
    folder, out = tmp_path / "series", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    write_whole_series(folder, make_scan().data.astype(np.int16), np.diag([-1.0, -1, 1, 1]),
                       PatientName=MARK, PatientID=MARK, StudyDate=DAY)  # fmt: skip

    said = run("segment", folder, out / "labels.dcm", "--model", "tiny-stp",
               "--report", out / "run.json")  # fmt: skip

    assert MARK not in said + "".join(str(warning.message) for warning in recwarn)
    assert DAY not in said
    named = {what for what, content in contents(out) if MARK.encode() in content}
    assert named == {"labels.dcm"}


def test_no_result_says_what_the_scan_was_called_or_where_it_lay(run: Run, tmp_path: Path) -> None:
    """A file name that somebody chose may be a patient's."""
    folder = tmp_path / f"{MARK}-{DAY}"
    folder.mkdir()
    nifti(folder / f"{MARK}.nii.gz")

    segment_all(run, folder / f"{MARK}.nii.gz", tmp_path / "out")

    for what, content in contents(tmp_path / "out"):
        assert MARK.encode() not in content, what
        assert DAY.encode() not in content, what
        assert str(tmp_path).encode() not in content, what


WATCHED = """
import json, socket, sys
seen = []
ways = ("connect", "sendto", "sendmsg", "getaddrinfo", "gethostbyname", "gethostbyaddr")
watched = {f"socket.{way}" for way in ways} | {"urllib.Request", "http.client.connect"}
sys.addaudithook(lambda event, _: seen.append(event) if event in watched else None)
sys.argv = ["sparseseg", *sys.argv[1:]]
from napari_sparseseg.cli import main
try:
    main()
except SystemExit as left:
    told = {"code": left.code or 0, "run": list(seen)}
with socket.socket() as one:  # it would have been seen
    one.connect_ex(("127.0.0.1", 9))
print(json.dumps({**told, "after": seen}))
"""


def test_a_run_and_its_page_reach_for_nothing(
    model: ModelInfo, tmp_path: Path, repository: Path
) -> None:
    """Nothing is asked for, nothing reported, not even to this computer itself."""
    nifti(tmp_path / "scan.nii.gz")
    answer = subprocess.run(
        [sys.executable, "-c", WATCHED, "segment", tmp_path / "scan.nii.gz", tmp_path / "l.nii.gz",
         "--model", "tiny-stp", "--device", "cpu", "--report", tmp_path / "page.html"],
        cwd=repository, capture_output=True, text=True,
    )  # fmt: skip
    told = json.loads(answer.stdout.splitlines()[-1])

    assert told == {"code": 0, "run": [], "after": ["socket.connect"]}, answer.stderr
    page = (tmp_path / "page.html").read_text()
    for way in ("<script", "@import", "<iframe", "<link", 'src="http', "url(http", 'href="http'):
        assert way not in page
    assert 'src="data:image/' in page


def connections(process: psutil.Process) -> int:
    return sum(len(p.net_connections("inet")) for p in [process, *process.children(True)])


def test_the_worker_opens_no_port(model: ModelInfo, tmp_path: Path) -> None:
    host = Host(tmp_path / "folder").greet()
    worker = psutil.Process(host.process.pid)
    counts = [connections(worker)]
    host.open(make_scan(), "tiny-stp")
    counts.append(connections(worker))
    host.call("run", setting=0.5)
    counts.append(connections(worker))

    assert counts == [0, 0, 0]
    assert host.end() == 0
    with socket.create_server(("127.0.0.1", 0)):  # it would have been seen
        assert connections(psutil.Process()) == 1


def test_what_the_worker_says_of_a_scan_holds_no_name(model: ModelInfo, tmp_path: Path) -> None:
    """A host names the scan for messages; no answer that succeeds and no file repeats it."""
    host = Host(tmp_path / "folder").greet()
    answer = host.open(replace(make_scan(), name=f"{MARK} {DAY}"), "tiny-stp")
    result = host.call("run", setting=0.5)

    assert host.end() == 0
    for said in (json.dumps([answer, result, host.log]), host.errors.read_text()):
        assert MARK not in said and DAY not in said
    for what, content in contents(host.folder):
        assert MARK.encode() not in content, what
