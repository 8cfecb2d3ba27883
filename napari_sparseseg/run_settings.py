"""All that decides the labels of a scan, in one place; naming it loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sparseseg.means import OVERLAP, Means
from napari_sparseseg.methods import check_sparsifier, checked_setting, control_of
from napari_sparseseg.weights import ModelInfo

if TYPE_CHECKING:
    from napari_sparseseg.segmenter import Segmenter


@dataclass(frozen=True)
class RunSettings:
    """What a run is told; the same on the same device gives the same labels.

    Parameters
    ----------
    model : ModelInfo
        The model.
    setting : float or None
        Value of the setting, the model's default if None.
    sparsifier : str
        Name of a control that takes the place of the model's own rule; "" for its own.
    seed : int
        Seed of what a control draws.
    device : str
        "auto", "cpu", "cuda" or "cuda:n".
    precision : str
        "auto", "float32" or "bfloat16".
    means : Means
        What makes a run fast, each behind a switch.
    overlap : float
        Least common part of neighbouring windows, as a fraction of a window.
    """

    model: ModelInfo
    setting: float | None = None
    sparsifier: str = ""
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    means: Means = Means()
    overlap: float = OVERLAP

    def checked(self) -> RunSettings:
        """Return them if the model can run with the sparsifier and the setting.

        Raises
        ------
        InputError
            If it cannot.
        """
        rule = self.sparsifier or self.model.method
        check_sparsifier(rule, self.model.method, self.model.name)
        if self.setting is not None:
            checked_setting(self.setting, control_of(self.model.method, rule))
        return self

    def segmenter(self, memory_gb: float | None = None) -> Segmenter:
        """Load the network on its device; the setting is for :meth:`Session.run`.

        Parameters
        ----------
        memory_gb : float, optional
            The most that a run may take (GB); it changes no label.

        Raises
        ------
        InputError, ModelError, DeviceError
            If the sparsifier, the model or the device cannot be used.
        """
        from napari_sparseseg.memory import check_room_for_engine

        check_room_for_engine()
        from napari_sparseseg.segmenter import Segmenter

        return Segmenter(
            self.model,
            self.device,
            self.precision,
            self.sparsifier,
            self.seed,
            self.means,
            self.overlap,
            memory_gb,
        )
