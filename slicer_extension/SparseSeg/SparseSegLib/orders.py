"""What a panel or a script asks of the logic, and what it gets; plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from SparseSegLib.jobs import Setup

if TYPE_CHECKING:
    from SparseSegLib.answers import RunAnswer, TokenMap
    from SparseSegLib.scene import ResultNodes, Source


def nothing(*_: object) -> None:
    """Take anything and do nothing."""


@dataclass(frozen=True, eq=False)
class Order:
    """What to segment, and how.

    Attributes
    ----------
    volume : vtkMRMLScalarVolumeNode
        The volume.
    region : vtkMRMLMarkupsROINode or None
        Where in it.
    setup : Setup
        Model, device, precision and control.
    setting : float or None
        Value of the model's setting, None for its default.
    compare_dense : bool
        Whether the dense twin runs too.
    """

    volume: Any
    region: Any
    setup: Setup
    setting: float | None = None
    compare_dense: bool = False


@dataclass(eq=False)
class Shown:
    """The result of a volume that the scene shows.

    Attributes
    ----------
    order : Order
        What was asked for.
    source : Source
        What the engine got.
    answer : RunAnswer
        What it answered.
    nodes : ResultNodes
        Where that is.
    previewed : dict of TokenMap
        Maps that a preview has taken the place of.
    """

    order: Order
    source: Source
    answer: RunAnswer
    nodes: ResultNodes
    previewed: dict[tuple[str, int | None], TokenMap] = field(default_factory=dict)

    def map(self, key: tuple[str, int | None]) -> TokenMap | None:
        """Return the map that is in the scene under a key."""
        maps = {token_map.key: token_map for token_map in self.answer.maps}
        return self.previewed.get(key) or maps.get(key)


@dataclass(frozen=True, eq=False)
class Listener:
    """Who is told about a run; exactly one of the first two is called, if it is not replaced.

    Attributes
    ----------
    on_finished : callable
        Gets :class:`Shown`.
    on_error : callable
        Gets an exception whose message is one sentence for the user.
    on_progress : callable
        Gets steps done, steps in all (0 if unknown) and the present step.
    """

    on_finished: Callable[[Shown], None] = nothing
    on_error: Callable[[Exception], None] = nothing
    on_progress: Callable[[int, int, str], None] = nothing


def origin(report: Mapping[str, Any]) -> str:
    """Say in short what a result came from: model, control if one was used, and setting."""
    parts = [report["model"]]
    if report["sparsifier"] != report["method"]:
        parts.append(f"control {report['sparsifier']}")
    setting = report["setting"]
    if setting is not None:
        parts.append(f"{setting['name']} {setting['value']:g}")
    return ", ".join(parts)
