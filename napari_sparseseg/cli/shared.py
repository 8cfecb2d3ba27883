"""What several commands share: their options, the progress bar, Ctrl-C, and tables."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sparseseg.errors import Cancelled, ChoiceNeeded, InputError
from napari_sparseseg.weights import DEFAULT_MODEL

if TYPE_CHECKING:
    from napari_sparseseg.volume import Volume

ScanArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="The scan: a folder with DICOM files, a DICOM file, or a .nii, .nii.gz, .nrrd, .nhdr, "
        ".mha, .mhd, .hdr or .img file.",
        show_default=False,
    ),
]
PartOption = Annotated[
    str,
    typer.Option(
        metavar="KEY",
        help="Which series or frame, where the scan's folder or file holds several: "
        "'sparseseg parts' lists them.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH",
        help="A model that 'sparseseg models' lists, or the path of a .safetensors file.",
        show_default=DEFAULT_MODEL,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda[:n]",
        help="Processor: auto is the first graphics card, or else the CPU.",
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        metavar="auto|float32|bfloat16",
        help="Number format: auto is bfloat16 where the processor is faster with it.",
    ),
]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory",
        metavar="GB",
        help="The most memory that the run may take beside the scan and the model, of the computer "
        "and of the graphics card; if left out, four fifths of what is free. A run that does not "
        "fit is made in a slower way that takes less, with the same labels, or refused.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs that exist already.")
]
ResampleOption = Annotated[
    bool,
    typer.Option(
        "--resample",
        help="Bring a reference on another grid to the voxels of the other image first; each "
        "voxel takes the class of the nearest one.",
    ),
]


@contextmanager
def one_interrupt(
    message: str = "The run was cancelled; nothing was written.",
) -> Iterator[None]:
    """Turn Ctrl-C, and being asked to end, into :class:`Cancelled`.

    A second one must not disturb the tidying up.
    """
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    except KeyboardInterrupt:
        raise Cancelled(message) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int, str], None]]:
    """Show progress on the standard error where that is a terminal."""
    from tqdm import tqdm

    with tqdm(
        total=1,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
        leave=False,
        bar_format="{desc:<28}{percentage:3.0f} % |{bar}| {elapsed}",
    ) as bar:

        def progress(done: int, total: int, what: str) -> None:
            bar.n, bar.total = done, total
            bar.set_description_str(what)

        yield progress


def read_scan(path: Path, part: str) -> Volume:
    """Read a scan; where one of several must be chosen, say by which option.

    Raises
    ------
    InputError
        As :func:`~napari_sparseseg.files.read_volume` does.
    """
    from napari_sparseseg.files import read_volume

    try:
        return read_volume(path, part=part)
    except ChoiceNeeded as error:
        raise InputError(f"{str(error).removesuffix('.')}, with --part.") from error


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out in columns: the first to the left, the others to the right.

    Parameters
    ----------
    rows : sequence of sequences of str
        All of one length; the first is the head.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    )


def number(value: float | None, digits: int) -> str:
    """Write a number with so many digits behind the point, "-" where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
