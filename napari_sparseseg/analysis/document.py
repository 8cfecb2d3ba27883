"""What an inspection found as one page for people, and the same as data beside it.

The page is one file: its pictures are in it, nothing is loaded from anywhere, no script runs.
Neither file holds anything of the scan's header but its geometry; the name of a scan may be that
of a patient.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg import colors as palette
from napari_sparseseg.analysis.inspection import DENSE, Inspection
from napari_sparseseg.analysis.planes import CROSS, draw_planes
from napari_sparseseg.analysis.swept import TOLERANCE
from napari_sparseseg.analysis.terms import Topic, terms
from napari_sparseseg.errors import ModelError, OutputError
from napari_sparseseg.fates import AIR, fate_map, fate_names, stage_name
from napari_sparseseg.methods import METHODS
from napari_sparseseg.progress import CancelToken, Progress, silent
from napari_sparseseg.report import NOTICE
from napari_sparseseg.together import check_targets, content_step, write_together
from napari_sparseseg.weights import ModelInfo, models
from napari_sparseseg.words import rounded

if TYPE_CHECKING:
    from napari_sparseseg.analysis.attribution import Attribution
    from napari_sparseseg.analysis.swept import Sweep, SweepPoint
    from napari_sparseseg.volume import Volume

Point = tuple[float, float, float]

PICTURED = 10
"""Safety notes that are shown with their planes; the others are in a table."""
NOTE_FIELD = 80.0
"""Edge (mm) of the part around a note that its planes show."""
REFERENCE = "reference"
"""What a title of a reference begins with."""

_TEMPLATES = Path(__file__).parent / "templates"


def write_document(
    inspection: Inspection,
    path: str | Path,
    *,
    sweep: Sweep | None = None,
    tolerance: float = TOLERANCE,
    point: Point | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> None:
    """Write a page and its data, both or none.

    Parameters
    ----------
    inspection : Inspection
        What was found.
    path : str or Path
        The page, an ``.html`` file; the data go into a ``.json`` file of the same name.
    sweep : Sweep, optional
        The same scan at many settings.
    tolerance : float
        Loss of mean Dice that the proposed setting may cost.
    point : tuple of float, optional
        RAS mm that the planes go through; the middle of the segmentation if left out.
    overwrite : bool
        Replace files that exist.
    progress : callable, optional
        See :data:`Progress`; a step for each picture of planes.
    cancel : CancelToken, optional
        Checked before each picture, and for the last time before anything is written.

    Raises
    ------
    OutputError
        If the ending is another one, or a file exists already or cannot be written.
    Cancelled
        If the token was set.
    """
    cancel = cancel or CancelToken()
    page = Path(path)
    if page.suffix.lower() != ".html":
        raise OutputError(f"The page {page.name} has an unknown ending; use .html.")
    data = page.with_suffix(".json")
    check_targets([page, data], overwrite=overwrite)
    facts = {
        **inspection.to_dict(),
        "compared_with": None if inspection.other is None else _other(inspection),
        "sweep": None if sweep is None else sweep.to_dict(),
    }
    text = json.dumps(facts, indent=2, allow_nan=False) + "\n"
    planes = _Planes(inspection, progress or silent, cancel)
    curve = None if sweep is None else _Curve(sweep, tolerance)
    html = _html(inspection, curve, point or middle(inspection.result.labels), planes)
    cancel.raise_if_cancelled()
    write_together(
        content_step(file, content.encode(), overwrite=overwrite)
        for file, content in ((page, html), (data, text))
    )


def middle(labels: Volume) -> Point:
    """Return the centre of all structures, RAS mm; that of the scan where there are none."""
    filled = labels.data > 0
    if not filled.any():
        return _in_ras(labels, (np.array(labels.shape) - 1) / 2)
    planes = (filled.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3))
    return _in_ras(labels, [np.average(np.arange(len(n)), weights=n) for n in planes])


def _in_ras(volume: Volume, voxel: Sequence[float] | NDArray[np.float64]) -> Point:
    x, y, z, _ = (volume.affine @ [*voxel, 1.0]).tolist()
    return x, y, z


@dataclass(frozen=True, eq=False)
class _Curve:
    """A sweep, and the loss of mean Dice that its proposed setting may cost."""

    sweep: Sweep
    tolerance: float

    @property
    def proposed(self) -> SweepPoint:
        return self.sweep.propose(self.tolerance)

    def drawn(self) -> dict[str, str]:
        """Draw the curve for a light and a dark page."""
        from matplotlib.figure import Figure

        from napari_sparseseg.analysis.curve import draw_sweep

        curves = {}
        for name in ("light", "dark"):
            figure, picture = Figure(figsize=(9, 2.7), dpi=160), BytesIO()
            draw_sweep(figure, self.sweep, dark=name == "dark", proposed=self.proposed.setting)
            figure.savefig(picture, format="png")
            curves[name] = _data_uri(picture.getvalue())
        return curves


def _html(inspection: Inspection, curve: _Curve | None, point: Point, planes: _Planes) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(_FILTERS)
    template = environment.get_template("document.html.jinja")
    return template.render(_context(inspection, curve, point, planes))


def _context(
    inspection: Inspection, curve: _Curve | None, point: Point, planes: _Planes
) -> dict[str, Any]:
    """Collect what the template shows."""
    result, attribution = inspection.result, inspection.attribution
    report, method = result.report, METHODS[result.report["method"]]
    notes, sweep = inspection.notes, None if curve is None else curve.sweep
    return {
        "notice": NOTICE,
        "report": report,
        "method": method,
        "sparsifier": METHODS[report["sparsifier"]],
        "model": _model(report),
        "has_dense": _has_dense(inspection),
        "has_new_errors": _has_new_errors(attribution),
        "other": _other(inspection),
        "comparison": inspection.comparison,
        "swatches": dict(zip(result.classes, map(_hex, result.colors), strict=True)),
        "legend": _legend(inspection),
        "point": point,
        "planes": planes.draw(point, None),
        "notes": [(note, planes.draw(note.place, NOTE_FIELD)) for note in notes[:PICTURED]],
        "more_notes": notes[PICTURED:],
        "note_field": NOTE_FIELD,
        "attribution": attribution,
        "bars": [] if attribution is None else _bars(attribution),
        "structures": inspection.structures,
        "stages": [stage_name(result.trace, s + 1) for s in range(len(result.trace.stages))],
        "sweep": sweep,
        "curve": None if curve is None else curve.drawn(),
        "proposed": None if curve is None else curve.proposed,
        "tolerance": None if curve is None else f"{curve.tolerance:g}",
        "terms": terms(method.name, _topics(inspection, sweep)),
    }


def _model(report: dict[str, Any]) -> ModelInfo | None:
    """Return what the registry knows of the very weights that ran."""
    try:
        known = models()
    except ModelError:  # no registry: the report's own facts stand
        return None
    return next((info for info in known if info.sha256 == report["weights_sha256"]), None)


def _hex(color: str) -> str:
    """Return a colour as "#rrggbb" and nothing else: it goes into a style."""
    from matplotlib.colors import to_hex

    return to_hex(color)


class _Planes:
    """Draws the planes of a page; each picture takes a while.

    Parameters
    ----------
    inspection : Inspection
        Of what.
    progress, cancel
        As for :func:`write_document`.
    """

    def __init__(self, inspection: Inspection, progress: Progress, cancel: CancelToken) -> None:
        self._inspection, self._progress, self._cancel = inspection, progress, cancel
        self._drawn, self._total = 0, 1 + len(inspection.notes[:PICTURED])

    def draw(self, point: Point, field: float | None) -> str:
        """Draw the planes through a point; see :func:`draw_planes`."""
        self._progress(self._drawn, self._total, "Writing the report")
        self._cancel.raise_if_cancelled()
        self._drawn += 1
        result, compared = self._inspection.result, self._inspection.comparison
        picture = draw_planes(
            self._inspection.scan,
            result.labels,
            result.colors,
            result.trace,
            point,
            None if compared is None else compared.difference,
            field=field,
        )
        return _data_uri(picture)


def _data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{b64encode(picture).decode()}"


def _legend(inspection: Inspection) -> list[tuple[str, str, str]]:
    """List what the planes show: how it is drawn ("line" or "fill"), colour and meaning."""
    result = inspection.result
    entries = [
        ("line", _hex(color), name)
        for name, color in zip(result.classes[1:], result.colors[1:], strict=True)
        if result.report["classes"][name]["voxels"]
    ]
    trace, names = result.trace, fate_names(result.trace)
    shades = dict(enumerate(palette.left(len(trace.stages)), start=1))
    shades[len(trace.stages) + 2] = palette.SOME_BLOCKS
    present = set(np.unique(fate_map(trace)).tolist())
    entries += [
        ("fill", palette.over_grey(color), f"token {names[value]}")
        for value, color in shades.items()
        if value in present
    ]
    if inspection.comparison is not None:
        counts = inspection.comparison.counts
        entries += [
            ("fill", color, f"voxels {name}, against the {_other(inspection)}")
            for (name, count), color in zip(counts.items(), palette.DIFFERENCES, strict=True)
            if count
        ]
    return [*entries, ("line", CROSS, "cross-hair at the place")]


@dataclass(frozen=True)
class _Bar:
    """A pair of bars.

    Attributes
    ----------
    fate : str
        Of which tokens.
    tissue, errors : float
        Their share of the voxels that are not air, and of all errors.
    """

    fate: str
    tissue: float
    errors: float


def _bars(attribution: Attribution) -> list[_Bar]:
    """Return the shares that are drawn side by side; air only where it holds errors."""
    tissue = sum(share.voxels for share in attribution.shares if share.fate != AIR)
    return [
        _Bar(
            share.fate,
            share.voxels / tissue if tissue and share.fate != AIR else 0.0,
            attribution.error_share(share),
        )
        for share in attribution.shares
        if share.errors or (share.voxels and share.fate != AIR)
    ]


def _other(inspection: Inspection) -> str:
    """Name what the result is compared with, but no file: its name may be that of a patient."""
    title = inspection.other_title or "other label map"
    return REFERENCE if title.startswith(REFERENCE) else title


def _has_dense(inspection: Inspection) -> bool:
    """Tell whether the result was compared with its dense twin."""
    return inspection.other_title == DENSE or _has_new_errors(inspection.attribution)


def _has_new_errors(attribution: Attribution | None) -> bool:
    """Tell whether it is known which errors the dense twin does not make."""
    shares = () if attribution is None else attribution.shares
    return any(share.new_errors is not None for share in shares)


def _topics(inspection: Inspection, sweep: Sweep | None) -> set[Topic]:
    there: dict[Topic, object] = {
        "dense twin": _has_dense(inspection) or sweep,
        "other": inspection.comparison or sweep,
        "confidence": inspection.notes,
        "random": sweep is not None and sweep.random,
    }
    return {topic for topic, shown in there.items() if shown}


# Numbers with one look everywhere; a dash where there is none


def _count(value: int) -> str:
    return f"{value:,}"


def _decimals(value: float | None, digits: int, signed: bool = False) -> str:
    if value is None or value != value:
        return "–"
    return rounded(value, digits, signed).replace("-", "−")


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{_decimals(percent, 1 if 0 < percent < 10 else 0)} %"


def _place(point: Point) -> str:
    """Say where a point lies, in the words of a viewer."""
    ends = ("RL", "AP", "SI")
    parts = [f"{end[mm < 0]} {abs(mm):.1f}" for end, mm in zip(ends, point, strict=True)]
    return f"{', '.join(parts)} mm"


_FILTERS: dict[str, Callable[..., str]] = {
    "count": _count,
    "decimals": _decimals,
    "percent": _percent,
    "place": _place,
}
