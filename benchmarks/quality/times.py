"""Whole-volume seconds of a model beside those of its dense twin, in one process, in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from benchmarks.quality.cases import CaseSet
from benchmarks.quality.outcome import Json
from benchmarks.timing import alternate
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import ModelInfo

ROUNDS = 3
CASES = 3


def time_model(
    info: ModelInfo, twin: ModelInfo, arms: Sequence[Json], sets: Mapping[str, CaseSet]
) -> list[Json]:
    """Time opening and running a loaded volume, at every ratio that the model reaches.

    Parameters
    ----------
    info, twin : ModelInfo
        The model and its dense twin.
    arms : sequence of dict
        The arms of the model, which name its setting for each ratio.
    sets : mapping of str to CaseSet
        Of which the first test scans are segmented, after one warm-up.
    """
    sparse, dense = Segmenter(info), Segmenter(twin)
    settings = {
        arm["ratio"]: arm["setting"]
        for arm in arms
        if (arm["set"], arm["sparsifier"]) == ("test", info.method) and arm["reached"]
    }
    rows = []
    for case in sets["test"].first(CASES):
        for ratio, setting in settings.items():
            rounds = alternate(
                {
                    "dense_seconds": partial(dense.segment, case.volume),
                    "seconds": partial(sparse.segment, case.volume, setting),
                },
                ROUNDS,
                sparse.device,
            )
            pairs = [(name, seconds) for name, seconds, _ in rounds]
            for number in range(ROUNDS):
                timed = dict(pairs[2 * number : 2 * number + 2])
                rows.append(
                    {"ratio": ratio, "setting": setting, "case": case.name, "round": number}
                    | {name: round(seconds, 5) for name, seconds in timed.items()}
                )
    return rows
