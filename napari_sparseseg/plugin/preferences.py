"""What the user set last, kept by napari: the ``configurations`` of the manifest, typed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from napari_sparseseg.analysis.notes import LOW_CONFIDENCE
from napari_sparseseg.analysis.swept import TOLERANCE

if TYPE_CHECKING:
    from napari_sparseseg.plugin.controls import Controls
    from napari_sparseseg.plugin.map_panel import MapPanel

POINTS = 100
"""A Dice point is a hundredth."""

_PLUGIN = "napari-sparseseg"


@dataclass(frozen=True)
class Preferences:
    """The settings that outlive a window; names and defaults are those of the manifest.

    Attributes
    ----------
    device, precision : str
        As for ``Segmenter``.
    task, method : str
        Key of the task and name of the method that were chosen last, "" for the defaults.
    map : str
        The map that is shown first, one of :data:`maps.KINDS` or :data:`maps.NONE`.
    follow : bool
        Whether the network runs by itself when the slider rests.
    tolerance : float
        Mean Dice, in points of a hundredth, that a proposed setting may lose.
    low_confidence : float
        Confidence below which a safety note is made.
    memory_gb : float
        The most memory that a run may take (GB), 0 for what is free.
    """

    device: str = "auto"
    precision: str = "auto"
    task: str = ""
    method: str = ""
    map: str = "kept"
    follow: bool = True
    tolerance: float = POINTS * TOLERANCE
    low_confidence: float = LOW_CONFIDENCE
    memory_gb: float = 0.0


def load() -> Preferences:
    """Return what is kept; the defaults where napari keeps nothing or it cannot be read."""
    try:
        kept = _kept()
        return Preferences(
            **{field.name: getattr(kept, field.name) for field in fields(Preferences)}
        )
    except Exception:
        # An older napari, a plugin that is switched off, a spoilt file: no reason not to open.
        return Preferences()


def keep(**changes: Any) -> None:
    """Keep these of :class:`Preferences` for the next window, where napari can."""
    try:
        kept = _kept()
        for name, value in changes.items():
            if getattr(kept, name) != value:
                setattr(kept, name, value)
    except Exception:
        # A full disk, a read-only folder: what the user is doing goes on all the same.
        return


def restore(controls: Controls, maps: MapPanel) -> None:
    """Choose in a new dock what was chosen last, and keep what is chosen from now on."""
    last = load()
    controls.restore(last)
    maps.preferred = last.map

    def keep_choice() -> None:
        choice, task = controls.choice(), controls.task.currentData()
        if choice is None:
            return
        keep(
            device=controls.device.currentData(),
            precision=controls.precision.currentData(),
            task=task.key,
            method=choice.model.method,
            memory_gb=controls.memory.value(),
        )

    controls.setup_changed.connect(keep_choice)
    controls.choice_changed.connect(keep_choice)
    controls.follow.toggled.connect(lambda on: keep(follow=on))
    maps.chosen.connect(lambda kind, _: keep(map=kind))


def _kept() -> Any:
    from napari.settings import get_plugin_settings

    return get_plugin_settings(_PLUGIN).last
