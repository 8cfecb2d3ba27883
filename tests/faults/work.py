"""Kinds of work to repeat: what a user does all day, and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil

from napari_sparseseg.errors import Cancelled, InputError
from napari_sparseseg.files import SUFFIXES, read_volume, write_volume
from napari_sparseseg.progress import CancelToken

Act = Callable[[int], object]
Work = Callable[[Path], AbstractContextManager[tuple[Act, psutil.Process]]]

_SETTINGS = (0.2, 0.5, 0.8, 1.0)


def _in_this_process(make: Callable[[Path], Iterator[Act]]) -> Work:
    @contextmanager
    def ready(folder: Path) -> Iterator[tuple[Act, psutil.Process]]:
        for act in make(folder):
            yield act, psutil.Process()

    return ready


def _sessions(folder: Path) -> Iterator[Act]:
    from tests.faults.made import make_scan, make_segmenter

    segmenter, scan = make_segmenter(folder), make_scan()

    def act(number: int) -> None:
        with segmenter.open(scan) as session:
            session.run(_SETTINGS[number % 4])

    yield act


def _settings(folder: Path) -> Iterator[Act]:
    from tests.faults.made import make_scan, make_segmenter

    with make_segmenter(folder).open(make_scan()) as session:

        def act(number: int) -> None:
            session.preview(_SETTINGS[number % 4])
            session.run(_SETTINGS[number % 4])

        yield act


def _models(folder: Path) -> Iterator[Act]:
    from napari_sparseseg.segmenter import Segmenter
    from tests.faults.made import make_model

    info = make_model(folder)
    yield lambda number: Segmenter(info, device="cpu", precision="float32")


def _cancelled(folder: Path) -> Iterator[Act]:
    from tests.faults.made import make_scan, make_segmenter

    segmenter, scan = make_segmenter(folder), make_scan()

    def act(number: int) -> None:
        token, told = CancelToken(), iter(range(number % 4))

        def progress(*_: object) -> None:
            if next(told, None) is None:
                token.cancel()

        with suppress(Cancelled), segmenter.open(scan, progress, token) as session:
            session.run(0.5, progress, token)

    yield act


def _outputs(folder: Path) -> Iterator[Act]:
    from napari_sparseseg.outputs import Outputs
    from tests.faults.made import make_scan, make_segmenter

    result = make_segmenter(folder).segment(make_scan())
    files = Outputs(folder / "labels.nii.gz", folder / "trace", folder / "r.json", overwrite=True)
    yield lambda number: files.write(result)


def _files(folder: Path) -> Iterator[Act]:
    from tests.faults.made import make_scan

    scan = make_scan()

    def act(number: int) -> None:
        path = folder / f"scan{SUFFIXES[number % len(SUFFIXES)]}"
        write_volume(scan, path, overwrite=True)
        read_volume(path)

    yield act


def _damaged(folder: Path) -> Iterator[Act]:
    from tests.faults.made import make_scan

    for suffix in SUFFIXES:
        path = folder / f"damaged{suffix}"
        write_volume(make_scan(), path)
        path.write_bytes(path.read_bytes()[:-100])

    def act(number: int) -> None:
        with suppress(InputError):
            read_volume(folder / f"damaged{SUFFIXES[number % len(SUFFIXES)]}")

    yield act


@contextmanager
def _worker(folder: Path) -> Iterator[tuple[Act, psutil.Process]]:
    """Open, run and close in a worker, which is the process that is watched."""
    from tests.faults.made import make_model, make_scan
    from tests.worker.client import Host

    own = folder / "worker"
    own.mkdir()
    info = make_model(own)
    host = Host(folder / "shared", SPARSESEG_WEIGHTS=str(own)).greet()

    def act(number: int) -> None:
        host.open(make_scan(), model=info.name)
        host.take_all(host.call("run", setting=_SETTINGS[number % 4]))
        host.call("close")
        host.log.clear()

    try:
        yield act, psutil.Process(host.process.pid)
    finally:
        host.end()


WORK: dict[str, Work] = {
    "sessions opened, run and closed": _in_this_process(_sessions),
    "settings changed in one session": _in_this_process(_settings),
    "runs cancelled at one step or another": _in_this_process(_cancelled),
    "models loaded": _in_this_process(_models),
    "results written over older ones": _in_this_process(_outputs),
    "files of all formats written and read": _in_this_process(_files),
    "damaged files refused": _in_this_process(_damaged),
    "sessions of one worker": _worker,
}
"""Each by its name."""
