"""What every evaluation shares: who is compared with whom, Dice, and running scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics import compute_dice
from numpy.typing import NDArray

from napari_sparseseg.methods import KEEP_RATIO, METHODS, control_of, controls
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.session import Session
from napari_sparseseg.weights import ModelInfo

RATIOS = (1.0, 0.7, 0.5, 0.3, 0.1)
RANDOM_SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Contender:
    """A sparsifier that decides for a model: its own, or a control.

    Attributes
    ----------
    sparsifier : str
        Name of the method or control.
    seed : int
        Seed of what a control draws.
    """

    sparsifier: str
    seed: int = 0

    def open(self, info: ModelInfo) -> Segmenter:
        """Load the model with this sparsifier."""
        return Segmenter(info, sparsifier=self.sparsifier, seed=self.seed)

    def settings(self, info: ModelInfo, wanted: Sequence[float]) -> list[float]:
        """Return the settings to run: the wanted ones, or the dense one if there is no setting.

        What imitates the model's own rule has nothing to draw where that one prunes nothing.
        """
        if control_of(info.method, self.sparsifier) is None:
            return [1.0]
        return [s for s in wanted if s < 1 or self.sparsifier == info.method]


def contenders(info: ModelInfo) -> Iterator[Contender]:
    """List the model's own sparsifier and the controls that it has to beat."""
    yield Contender(info.method)
    if METHODS[info.method].is_control:
        return
    for name in controls():
        if not METHODS[name].mimics:
            yield Contender(name)
        elif METHODS[info.method].control:
            yield from (Contender(name, seed) for seed in RANDOM_SEEDS)


def has_keep_ratio(method: str) -> bool:
    """Whether the setting of a method is the share of tokens itself, not a threshold."""
    control = METHODS[method].control
    return control is not None and control.name == KEEP_RATIO.name


def dice_per_class(
    predicted: NDArray[np.integer], truth: NDArray[np.integer], classes: int
) -> list[float]:
    """Return the Dice of each foreground class; NaN where the truth lacks it.

    Parameters
    ----------
    predicted, truth : ndarray of int
        Class maps of one shape.
    classes : int
        Number of classes, background included.
    """
    scores = []
    for index in range(1, classes):  # class by class: a one-hot of a whole scan takes gigabytes
        mine, theirs = (torch.from_numpy(m == index)[None, None] for m in (predicted, truth))
        scores.append(float(compute_dice(mine, theirs)[0, 0]))
    return scores


@dataclass(frozen=True)
class Outcome:
    """What one run of a session gave.

    Attributes
    ----------
    dice : list of float
        Of each foreground class.
    tokens : dict
        Counts of the trace.
    blocks : float
        Mean share of the encoder blocks that a token with tissue ran.
    gmacs : dict
        "run", counted from what ran, and "dense".
    """

    dice: list[float]
    tokens: dict[str, int]
    blocks: float
    gmacs: dict[str, float]


def kept_share(tokens: dict[str, int]) -> float:
    """Return the share of the tokens with tissue that ran every block."""
    return tokens["kept"] / max(1, tokens["total"] - tokens["air"])


def run_session(session: Session, truth: NDArray[np.integer], setting: float) -> Outcome:
    """Run a session at one setting and compare with the truth on the scan's own grid."""
    answer = session.run(setting)
    dice = dice_per_class(answer.labels.data, truth, len(answer.classes))
    blocks = float(answer.trace.ran[:, ~answer.trace.air].mean())
    return Outcome(dice, answer.report["tokens"], blocks, answer.report["gmacs"])
