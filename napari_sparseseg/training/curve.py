"""The training curve of a run, drawn from its log."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

_TERMS = ("dice", "cross_entropy", "token", "score")
_WINDOW = 25


def draw_curve(log: Path, picture: Path) -> None:
    """Draw the terms of the loss over the steps, each a running mean over 25 log lines.

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
    steps = np.array([int(row["step"]) for row in rows])
    width = min(_WINDOW, max(1, len(rows)))
    figure, axes = plt.subplots(1, len(_TERMS), figsize=(14, 3), layout="constrained")
    for axis, term in zip(axes, _TERMS, strict=True):
        values = np.array([float(row[term]) for row in rows])
        smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
        axis.plot(steps, values, color="0.85", linewidth=0.7)
        axis.plot(steps[width - 1 :], smooth, color="C0")
        axis.set(title=term.replace("_", " "), xlabel="step")
    figure.savefig(picture, dpi=110)
    plt.close(figure)
