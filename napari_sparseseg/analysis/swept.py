"""What a sweep found: Dice, time and operations at each setting, and the setting to propose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from napari_sparseseg.errors import InputError

TOLERANCE = 0.005
"""Loss of mean Dice that a proposed setting may cost where none is named."""

_ROUNDING = 1e-9  # 0.9 - 0.005 is not 0.895 in binary


@dataclass(frozen=True)
class SweepPoint:
    """What one setting gave.

    Attributes
    ----------
    setting : float
        In (0, 1].
    sparsifier : str
        The rule that decided.
    dice_to_dense : tuple of float or None
        For each foreground class, against the model's own rule at setting 1; None where that
        lacks the class.
    dice_to_reference : tuple of float or None, or None
        The same against the reference, None if there is none.
    seconds : float
        What a user with an open session waits for after moving the slider: the network behind
        the first stage, and bringing the labels back to the scan's grid. Resampling and the
        blocks before the first stage are done once for all settings and are not in it.
    gmacs : float
        10^9 multiply-accumulates of the whole run, counted from what ran.
    tokens : dict
        Counts: total, air, kept, pruned, exited, reactivated.
    """

    setting: float
    sparsifier: str
    dice_to_dense: tuple[float | None, ...]
    dice_to_reference: tuple[float | None, ...] | None
    seconds: float
    gmacs: float
    tokens: dict[str, int]

    @property
    def mean_to_dense(self) -> float | None:
        """Mean Dice to the dense twin over the classes that it holds."""
        return _mean(self.dice_to_dense)

    @property
    def mean_to_reference(self) -> float | None:
        """Mean Dice to the reference over the classes that it holds."""
        return _mean(self.dice_to_reference or ())

    def to_dict(self) -> dict[str, Any]:
        """Return everything JSON-ready, the means included."""
        means = {
            "mean_to_dense": self.mean_to_dense,
            "mean_to_reference": self.mean_to_reference,
        }
        lists = {
            "dice_to_dense": list(self.dice_to_dense),
            "dice_to_reference": self.dice_to_reference and list(self.dice_to_reference),
        }
        return {**asdict(self), **lists, **means}


@dataclass(frozen=True)
class Sweep:
    """One scan at many settings.

    Attributes
    ----------
    model, method : str
        The model and its method.
    control : str
        Name of the setting, "keep ratio".
    classes : tuple of str
        Foreground classes, in the order of the Dice values.
    dense_gmacs : float
        10^9 multiply-accumulates with nothing pruned.
    points : tuple of SweepPoint
        The model's own rule: setting 1 first, then the others in the order asked for.
    random : tuple of SweepPoint
        The random control at the same settings, which draws as many tokens as the own rule
        keeps; at 1, where nothing is left out, it is the own rule's point. Empty if not asked
        for. Its seconds are no fair measure: to match the number of tokens, the control of some
        methods runs the own rule too.
    has_reference : bool
        Whether the points carry Dice to a reference.
    facts : dict
        JSON-ready: geometry of the volume, device, precision, weights_sha256, versions, notice,
        and the seed of the random control.
    """

    model: str
    method: str
    control: str
    classes: tuple[str, ...]
    dense_gmacs: float
    points: tuple[SweepPoint, ...]
    random: tuple[SweepPoint, ...]
    has_reference: bool
    facts: dict[str, Any]

    def quality(self, point: SweepPoint) -> float | None:
        """Return the mean Dice that counts: to the reference if there is one, else to dense."""
        return point.mean_to_reference if self.has_reference else point.mean_to_dense

    def propose(self, tolerance: float = TOLERANCE) -> SweepPoint:
        """Return the smallest setting that costs no more Dice than the tolerance.

        The mean Dice of a setting, see :meth:`quality`, is compared with that at setting 1; it
        need not fall evenly, so that a setting within the tolerance can lie below one that is
        not.

        Parameters
        ----------
        tolerance : float
            Largest loss of mean Dice, 0 or more.

        Raises
        ------
        InputError
            If the tolerance is negative or no number.
        """
        checked_tolerance(tolerance)
        least = self.quality(self.points[0])
        if least is None:  # no structure to lose: nothing tells one setting from another
            return self.points[0]
        least -= tolerance + _ROUNDING
        good = [p for p in self.points if (q := self.quality(p)) is not None and q >= least]
        return min(good, key=lambda point: point.setting)

    def to_dict(self) -> dict[str, Any]:
        """Return everything JSON-ready."""
        lists = {
            "classes": list(self.classes),
            "points": [point.to_dict() for point in self.points],
            "random": [point.to_dict() for point in self.random],
        }
        return {**vars(self), **lists}


def checked_tolerance(tolerance: float) -> float:
    """Return the tolerance of a proposal if it can be used.

    Raises
    ------
    InputError
        If it is negative or no number.
    """
    if not tolerance >= 0:
        raise InputError(f"The tolerance {tolerance:g} cannot be used; give 0 or more.")
    return tolerance


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return round(sum(there) / len(there), 5) if there else None
