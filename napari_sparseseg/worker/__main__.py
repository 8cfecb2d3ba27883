"""``python -m napari_sparseseg.worker --folder DIR``: the process that a host application starts.

It ends with its standard input, so that it never outlives its host, and opens no network port.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


class _Ended(BaseException):
    """A signal asked the worker to end."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the host at the other end of the standard streams until it leaves."""
    folder = _folder(arguments)
    source, sink = _take_streams()
    faulthandler.enable()
    # imported now that nothing a library prints can reach the wire
    from napari_sparseseg.worker.engine import Engine
    from napari_sparseseg.worker.folder import Folder
    from napari_sparseseg.worker.server import Server
    from napari_sparseseg.worker.wire import Wire, lines

    wire, shared = Wire(sink), Folder(folder)

    def log(text: str) -> None:
        wire.notify("log", level="info", text=text)

    server = Server(wire, shared, Engine(shared, log))
    with suppress(_Ended, OSError):
        _on_signals(_end)
        for line in lines(source):
            if not server.handle(line):
                break
    _on_signals(signal.SIG_IGN)
    server.stop()
    sys.stderr.flush()
    # at once: a job that does not look at its token must not keep the process alive
    os._exit(0)


def _folder(arguments: Sequence[str] | None) -> Path:
    parser = argparse.ArgumentParser(
        prog="python -m napari_sparseseg.worker",
        description="Segment for a host application that speaks JSON-RPC on the standard "
        "streams; see docs/worker.md.",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        required=True,
        help="existing folder, used by nobody else, through which arrays are exchanged as .npy",
    )
    folder: Path = parser.parse_args(arguments).folder
    if not folder.is_dir():
        parser.error(f"{folder} is not an existing folder; make it first.")
    return folder.resolve()


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take the standard streams for the wire alone.

    What libraries and their child processes print goes to the standard error, and who reads the
    standard input finds it empty.
    """
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.fstat(2)
    except OSError:  # the host has closed it
        os.dup2(nothing, 2)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    return source, sink


def _on_signals(action: Callable[..., None] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, action)


def _end(*_: object) -> None:
    _on_signals(signal.SIG_IGN)
    raise _Ended


if __name__ == "__main__":
    main()
