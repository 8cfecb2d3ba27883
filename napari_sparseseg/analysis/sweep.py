"""One scan at many settings: running them, and writing what they gave."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.analysis.swept import Sweep, SweepPoint
from napari_sparseseg.errors import InputError
from napari_sparseseg.methods import KEEP_RATIO, Control, checked_setting
from napari_sparseseg.progress import CancelToken, Progress, silent
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation, Session

RATIOS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1)
"""Keep ratios of a sweep that names none."""

SWEEP_FILES = ("sweep.json", "sweep.csv", "sweep.png")
"""What :func:`write_sweep` writes."""

_EVEN_STEPS = 5
_FACTS = ("volume", "device", "precision", "weights_sha256", "versions", "notice")

OnResult = Callable[[SweepPoint, "Segmentation"], None]


def default_settings(control: Control) -> tuple[float, ...]:
    """Return the settings of a sweep that names none, 1 first.

    `RATIOS` for a keep ratio; for a threshold, even steps down to the least that a slider offers.
    """
    if control.name == KEEP_RATIO.name:
        return RATIOS
    return tuple(float(s) for s in np.linspace(1, control.low, _EVEN_STEPS + 1).round(6))


def planned_settings(
    control: Control | None, settings: Sequence[float] | None
) -> tuple[float, ...]:
    """Return the settings that a sweep runs: 1 first, then the others, each once.

    Parameters
    ----------
    control : Control or None
        The setting in force.
    settings : sequence of float, optional
        The settings asked for.

    Raises
    ------
    InputError
        If there is no setting, or a value of it is out of range.
    """
    if control is None:
        raise InputError(
            "This sparsifier has no setting to sweep; choose a model with a keep ratio or a "
            "threshold."
        )
    asked = default_settings(control) if settings is None else settings
    return tuple(dict.fromkeys([1.0, *(float(checked_setting(s, control)) for s in asked)]))


def read_settings(text: str) -> list[float]:
    """Read numbers with commas or spaces between them.

    Raises
    ------
    InputError
        If there is anything else.
    """
    try:
        settings = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        settings = []
    if not settings:
        raise InputError(
            f"The settings '{text}' cannot be read; give numbers with commas between them, such "
            "as 1, 0.5, 0.2."
        )
    return settings


def sweep(
    session: Session,
    settings: Sequence[float] | None = None,
    *,
    reference: Volume | None = None,
    random: bool = True,
    seed: int = 0,
    on_result: OnResult | None = None,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Sweep:
    """Run a session at many settings, and random pruning of as many tokens beside it.

    Parameters
    ----------
    session : Session
        Open; it stays open.
    settings : sequence of float, optional
        In (0, 1]; `default_settings` if left out. 1 is always run, and first.
    reference : Volume, optional
        True classes on the grid of the session's volume.
    random : bool
        Whether the random control is run too, in a session of its own on the same volume.
    seed : int
        Seed of what it draws.
    on_result : callable, optional
        Called after each run, those of the random control included, with the point and the
        result.
    progress : callable, optional
        See :data:`Progress`.
    cancel : CancelToken, optional
        Checked between calls of the network.

    Raises
    ------
    InputError
        If the method has no setting, one is out of range, or the reference cannot be used.
    Cancelled
        If the token was set.
    DeviceError
        If the device runs out of memory.
    """
    segmenter = session.segmenter
    planned = planned_settings(segmenter.control, settings)
    truth = _truth(session, reference)
    with_random = random and segmenter.sparsifier != "random"
    runs = _Runs(
        1 + len(planned) + (len(planned) - 1 if with_random else 0),
        progress or silent,
        cancel or CancelToken(),
    )
    # The first run of all also pays for what a processor prepares once; it must not be a point.
    runs.run(session, min(planned))
    dense = runs.run(session, planned[0])
    judge = _Judge(dense, truth, on_result)
    points = [judge.point(dense)]
    points += [judge.point(runs.run(session, setting)) for setting in planned[1:]]
    drawn: list[SweepPoint] = []
    if with_random:
        drawn = [replace(points[0], sparsifier="random")]
        with _random_session(session, seed, runs) as other:
            drawn += [judge.point(runs.run(other, setting)) for setting in planned[1:]]
    return Sweep(
        model=segmenter.info.name,
        method=segmenter.info.method,
        control=dense.report["setting"]["name"],
        classes=dense.classes[1:],
        dense_gmacs=dense.report["gmacs"]["dense"],
        points=tuple(points),
        random=tuple(drawn),
        has_reference=truth is not None,
        facts={key: dense.report[key] for key in _FACTS} | {"seed": seed},
    )


class _Runs:
    """The runs of a sweep, one after the other, with one progress over all of them.

    Parameters
    ----------
    total : int
        Number of runs.
    progress : callable
        Whom to tell.
    cancel : CancelToken
        What stops them.
    """

    def __init__(self, total: int, progress: Progress, cancel: CancelToken) -> None:
        self.total, self.done = total, 0
        self.progress, self.cancel = progress, cancel

    def run(self, session: Session, setting: float) -> Segmentation:
        result = session.run(setting, self.tell, self.cancel)
        self.done += 1
        self.cancel.raise_if_cancelled()
        return result

    def tell(self, done: int, total: int, what: str) -> None:
        """Pass on the progress of one run, in hundredths of a run."""
        part = 0 if self.done == self.total else round(100 * done / max(1, total))
        now = min(self.done + 1, self.total)
        self.progress(100 * self.done + part, 100 * self.total, f"Run {now} of {self.total}")


@dataclass(frozen=True, eq=False)
class _Judge:
    """Turns results into points."""

    dense: Segmentation
    truth: NDArray[np.uint8] | None
    on_result: OnResult | None

    def point(self, result: Segmentation) -> SweepPoint:
        report = result.report
        seconds = report["seconds"]
        point = SweepPoint(
            setting=report["setting"]["value"],
            sparsifier=report["sparsifier"],
            dice_to_dense=self._dice(result, self.dense.labels.data),
            dice_to_reference=None if self.truth is None else self._dice(result, self.truth),
            seconds=round(seconds["sparse_network"] + seconds["restore"], 4),
            gmacs=report["gmacs"]["run"],
            tokens=report["tokens"],
        )
        if self.on_result is not None:
            self.on_result(point, result)
        return point

    def _dice(self, result: Segmentation, truth: NDArray[np.uint8]) -> tuple[float | None, ...]:
        from napari_sparseseg.analysis.metrics import dice_per_class

        return tuple(dice_per_class(result.labels.data, truth, len(result.classes)))


def _truth(session: Session, reference: Volume | None) -> NDArray[np.uint8] | None:
    """Return the reference's classes, on the grid of the session's volume."""
    if reference is None:
        return None
    from napari_sparseseg.analysis.compare import matched

    return matched(reference, session.volume, session.segmenter.info.classes).data


def _random_session(session: Session, seed: int, runs: _Runs) -> Session:
    from napari_sparseseg.segmenter import Segmenter

    own = session.segmenter
    other = Segmenter(
        own.info,
        own.device,
        own.precision,
        sparsifier="random",
        seed=seed,
        means=own.means,
        overlap=own.overlap,
        memory_gb=own.memory_gb,
    )
    return other.open(session.volume, cancel=runs.cancel)


def write_sweep(
    sweep: Sweep, folder: Path, *, proposed: float | None = None, overwrite: bool = False
) -> None:
    """Write ``sweep.json``, ``sweep.csv`` (one row a run) and ``sweep.png``, all or none.

    Parameters
    ----------
    sweep : Sweep
        What to write.
    folder : Path
        Made where it does not exist; other files in it are left alone.
    proposed : float, optional
        Setting to mark in the picture.
    overwrite : bool
        Replace files that exist.

    Raises
    ------
    OutputError
        If one cannot be written; all files and folders are then as before.
    """
    from napari_sparseseg.together import (
        check_targets,
        content_step,
        folder_step,
        write_together,
    )

    files = [Path(folder) / name for name in SWEEP_FILES]
    check_targets([], files, overwrite=overwrite)
    contents = (
        (json.dumps(sweep.to_dict(), indent=2) + "\n").encode(),
        _as_csv(sweep).encode(),
        _as_png(sweep, proposed),
    )
    write_together(
        [
            folder_step(files),
            *(
                content_step(file, content, overwrite=overwrite)
                for file, content in zip(files, contents, strict=True)
            ),
        ]
    )


def _as_csv(sweep: Sweep) -> str:
    rows = [_row(sweep, point) for point in (*sweep.points, *sweep.random)]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _row(sweep: Sweep, point: SweepPoint) -> dict[str, Any]:
    """Return one row; a cell without a value is empty."""
    row = {
        "sparsifier": point.sparsifier,
        "setting": point.setting,
        "mean_to_dense": point.mean_to_dense,
        "mean_to_reference": point.mean_to_reference,
        "seconds": point.seconds,
        "gmacs": point.gmacs,
        **{f"tokens {name}": count for name, count in point.tokens.items()},
    }
    for which in ("dice_to_dense", "dice_to_reference"):
        values = getattr(point, which) or (None,) * len(sweep.classes)
        for name, value in zip(sweep.classes, values, strict=True):
            row[f"{which} {name}"] = value
    return row


def _as_png(sweep: Sweep, proposed: float | None) -> bytes:
    from matplotlib.figure import Figure

    from napari_sparseseg.analysis.curve import draw_sweep

    figure = Figure(figsize=(9, 2.8), dpi=200)
    draw_sweep(figure, sweep, proposed=proposed)
    facts = sweep.facts
    origin = f"{sweep.model}, {facts['device']}, {facts['precision']}. {facts['notice']}"
    figure.supxlabel(origin, x=0.99, ha="right", fontsize=7, color="0.35")
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
