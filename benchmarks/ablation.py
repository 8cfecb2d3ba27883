"""What each means is worth: one switched off at a time, and switched on one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.arms import USUAL_OVERLAP
from benchmarks.bench import Bench, describe_case, mean_dice
from benchmarks.timing import Spread, alternate, spreads
from benchmarks.volumes import Case
from napari_sparseseg.means import Means
from napari_sparseseg.placement import OVERLAP
from napari_sparseseg.segmenter import Segmentation, Segmenter

CASE = "planning-ct"


@dataclass(frozen=True)
class Variant:
    """A way to run the sparse model.

    Attributes
    ----------
    means : Means
        Which means are used.
    precision : str
        "auto" or "float32".
    setting : float or None
        Keep ratio, None for the model's default.
    overlap : float
        Least common part of neighbouring windows.
    """

    means: Means = Means()
    precision: str = "auto"
    setting: float | None = None
    overlap: float = OVERLAP

    def open(self, bench: Bench) -> Segmenter:
        """Load the model in this way."""
        return Segmenter(
            bench.sparse, bench.device, self.precision, means=self.means, overlap=self.overlap
        )

    def run(self, segmenter: Segmenter, case: Case) -> Segmentation:
        """Segment a scan in this way."""
        return segmenter.segment(case.volume, self.setting)


def one_off() -> dict[str, Variant]:
    """List the default and, for each means, the default without it."""
    every = Means()
    return {
        "everything on": Variant(),
        "air tokens enter": Variant(replace(every, skip_air=False)),
        "windows over the whole volume": Variant(replace(every, skip_windows=False)),
        "whole-window decoding": Variant(replace(every, active_blocks=False)),
        "windows one by one": Variant(replace(every, pack_windows=False)),
        "float32": Variant(precision="float32"),
        "keep ratio 1": Variant(setting=1.0),
        "overlap 0.5": Variant(overlap=USUAL_OVERLAP),
    }


def cumulative() -> dict[str, Variant]:
    """List the steps from everything off to everything on; each adds one means."""
    none = Variant(Means.none(), "float32", 1.0, USUAL_OVERLAP)
    steps = {"everything off": none}
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("+ low precision where it gains", {"precision": "auto"}),
        ("+ default overlap", {"overlap": OVERLAP}),
        ("+ windows over the tissue only", {"skip_windows": True}),
        ("+ no air tokens", {"skip_air": True}),
        ("+ default keep ratio", {"setting": None}),
        ("+ active-block decoding", {"active_blocks": True}),
        ("+ windows packed", {"pack_windows": True}),
    )
    last = none
    for title, change in changes:
        name = next(iter(change))
        if hasattr(last.means, name):
            change = {"means": replace(last.means, **change)}
        last = steps[title] = replace(last, **change)
    return steps


def measure(bench: Bench) -> dict[str, Any]:
    """Time both lists on the planning-CT-like scan."""
    case = bench.case(CASE)
    return {
        "volume": describe_case(case),
        "one_off": _measure_variants(bench, case, one_off(), bench.repeats // 2 + 1),
        "cumulative": _measure_variants(bench, case, cumulative(), bench.slow_repeats),
    }


def _measure_variants(
    bench: Bench, case: Case, variants: dict[str, Variant], repeats: int
) -> list[dict[str, Any]]:
    loaded = {name: variant.open(bench) for name, variant in variants.items()}
    actions = {name: partial(variant.run, loaded[name], case) for name, variant in variants.items()}
    dice: dict[str, float] = {}

    def note(name: str, result: Segmentation) -> None:
        if name not in dice:
            dice[name] = mean_dice(result.labels.data, case.truth, len(result.classes))

    return rows_of(spreads(alternate(actions, repeats, bench.device), note), dice)


def rows_of(seconds: dict[str, Spread], dice: dict[str, float]) -> list[dict[str, Any]]:
    """Return a row for each variant, with its time over that of the first."""
    first = next(iter(seconds.values()))["median"]
    return [
        {
            "name": name,
            "seconds": spread_,
            "over_first": round(spread_["median"] / first, 4),
            "dice": dice[name],
        }
        for name, spread_ in seconds.items()
    ]
