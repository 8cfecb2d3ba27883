"""What Dice is left when a scan is worse than those that a model was made for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.arms import default_setting
from benchmarks.quality.cases import BRAIN, Case, CaseSet
from benchmarks.quality.contrasts import CONTRASTS, heads_in
from benchmarks.quality.degrade import (
    in_thick_slices,
    on_grid_of,
    shifted,
    with_bias,
    with_noise_of_dose,
    with_rician_noise,
)
from napari_sparseseg.analysis.metrics import dice_per_class
from napari_sparseseg.methods import KEEP_RATIO
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import Intensity, ModelInfo

Spoil = Callable[[Volume, int], Volume]
"""Spoils a volume; what is drawn comes from the seed."""

Variant = tuple[str, str, str, Volume]
"""Condition, its level, how much that is, and the scan under it."""

SLICE = 5.0
"""Millimetres of a thick slice."""


@dataclass(frozen=True)
class Condition:
    """One way of spoiling a scan.

    Attributes
    ----------
    name : str
        What is wrong with the scan.
    level : str
        "1" to "3", mild to severe; "" if there is one level only.
    about : str
        How much, with its unit.
    spoil : callable
        Does it.
    """

    name: str
    level: str
    about: str
    spoil: Spoil


def _noise(share: float) -> Spoil:
    return lambda volume, seed: with_rician_noise(volume, share, seed)


def _bias(peak_to_peak: float) -> Spoil:
    return lambda volume, seed: with_bias(volume, peak_to_peak, seed)


def _dose(dose: float) -> Spoil:
    return lambda volume, seed: with_noise_of_dose(volume, dose, seed)


def _shift(units: float) -> Spoil:
    return lambda volume, seed: shifted(volume, units)


CONDITIONS: Mapping[Intensity, tuple[Condition, ...]] = {
    "mr": (
        *(
            Condition("noise", level, f"sigma {share:.0%} of the brightest tissue", _noise(share))
            for level, share in (("1", 0.03), ("2", 0.06), ("3", 0.10))
        ),
        *(
            Condition("bias", level, f"{share:.0%} peak to peak", _bias(share))
            for level, share in (("1", 0.2), ("2", 0.4), ("3", 0.8))
        ),
        Condition(
            "thick slices",
            "",
            f"{SLICE:g} mm from foot to head",
            lambda volume, seed: in_thick_slices(volume, SLICE),
        ),
    ),
    "ct": (
        *(
            Condition("low dose", level, f"noise of 1/{part} of the dose", _dose(1 / part))
            for level, part in (("1", 2), ("2", 4), ("3", 8))
        ),
        *(
            Condition(f"shift {units:+d} HU", "", "added to every voxel", _shift(units))
            for units in (-40, -20, 20, 40)
        ),
    ),
}
"""What is done to scans of each kind of intensities."""


def measure(
    task: str, models: Sequence[ModelInfo], data: Path, cases: Mapping[str, CaseSet]
) -> list[dict[str, Any]]:
    """Segment spoilt scans with every model at its default setting.

    The test scans are spoilt, for reports only; of the brain, where that is one scan, the
    validation scans too, and those are also drawn in other contrasts.

    Parameters
    ----------
    task : str
        Name of the task.
    models : sequence of ModelInfo
        Its models.
    data : Path
        Folder of all data sets.
    cases : mapping of str to CaseSet
        Sets of the task.

    Returns
    -------
    list of dict
        A row for each model, condition and scan: Dice of each foreground class, None where the
        truth lacks it, and "reference", the same without the condition; "about" says how much
        the condition is.
    """
    segmenters = [Segmenter(info) for info in models]
    if not segmenters:
        return []
    conditions = CONDITIONS[models[0].intensity]
    contrasts: dict[str, dict[str, Volume]] = {}
    if task == BRAIN:
        contrasts = {name: heads_in(means, data) for name, means in CONTRASTS.items()}
    rows = []
    for part in ("test", "validation") if task == BRAIN else ("test",):
        for seed, case in enumerate(cases[part]):
            rows += _rows(segmenters, case, _variants(case, seed, conditions, contrasts))
    return rows


def _variants(
    case: Case,
    seed: int,
    conditions: Sequence[Condition],
    contrasts: Mapping[str, Mapping[str, Volume]],
) -> Iterator[Variant]:
    for condition in conditions:
        volume = condition.spoil(case.volume, seed)
        yield condition.name, condition.level, condition.about, volume
    for name, volumes in contrasts.items():
        if case.name in volumes:
            about = ", ".join(f"{key} {mean:.2f}" for key, mean in asdict(CONTRASTS[name]).items())
            yield name, "", about, volumes[case.name]


def _rows(
    segmenters: Sequence[Segmenter], case: Case, variants: Iterator[Variant]
) -> list[dict[str, Any]]:
    references = [_dice(segmenter, case.volume, case) for segmenter in segmenters]
    return [
        {
            "model": segmenter.info.name,
            **default_of(segmenter),
            "condition": name,
            "level": level,
            "about": about,
            "case": case.name,
            "dice": _dice(segmenter, volume, case),
            "reference": reference,
        }
        for name, level, about, volume in variants
        for segmenter, reference in zip(segmenters, references, strict=True)
    ]


def default_of(segmenter: Segmenter) -> dict[str, float | None]:
    """Return a model's default as "setting", and as "ratio" if that is a keep ratio."""
    control = segmenter.control
    setting = default_setting(segmenter.info)
    is_ratio = control is None or control.name == KEEP_RATIO.name
    return {"ratio": 1.0 if control is None else setting if is_ratio else None, "setting": setting}


def _dice(segmenter: Segmenter, volume: Volume, case: Case) -> list[float | None]:
    """Segment a volume and compare on the grid of the truth."""
    labels = segmenter.segment(volume).labels
    found = on_grid_of(labels, case.volume)
    return dice_per_class(found, case.truth, len(segmenter.info.classes))
