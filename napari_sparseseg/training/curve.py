"""The training curve of a run, drawn from its log."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from napari_sparseseg.files import atomic_path
from napari_sparseseg.training.loop import TERMS

_WINDOW = 25


def draw_curve(log: Path, picture: Path) -> None:
    """Draw the terms of the loss over the steps, each a running mean over 25 log lines.

    Terms that are always zero are left out.

    Parameters
    ----------
    log : Path
        ``log.csv`` of a run.
    picture : Path
        PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:  # stopped before the first line
        return
    steps = np.array([int(row["step"]) for row in rows])
    width = min(_WINDOW, max(1, len(rows)))
    curves = {term: np.array([float(row[term]) for row in rows]) for term in TERMS}
    curves = {term: values for term, values in curves.items() if values.any()}
    figure, axes = plt.subplots(1, len(curves), figsize=(14, 3), layout="constrained")
    for axis, (term, values) in zip(axes, curves.items(), strict=True):
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        axis.plot(steps, values, color="0.85", linewidth=0.7)
        axis.plot(steps[width - 1 :], smooth, color="C0")
        axis.set(title=term.replace("_", " "), xlabel="step")
    with atomic_path(picture, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
