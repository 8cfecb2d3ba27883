"""What is shown of each image: its layers, its result, and those before it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from napari_sparseseg.catalog import Choice
from napari_sparseseg.plugin.layers import ResultLayers
from napari_sparseseg.plugin.runner import Answer, Request

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation

EARLIER = 8
"""Results that can be brought back; each holds the labels of a whole scan."""


@dataclass(eq=False)
class Shown:
    """What is shown of one image.

    Attributes
    ----------
    layers : ResultLayers
        The layers.
    answer : Answer
        What was asked for, and what came out.
    kept : bool
        Whether it was left in the viewer under its own name already.
    earlier : list of Answer
        Answers that were shown before it, the latest last.
    dense : Answer or None
        The dense twin, once something was compared with it.
    """

    layers: ResultLayers
    answer: Answer
    kept: bool = False
    earlier: list[Answer] = field(default_factory=list)
    dense: Answer | None = None

    @property
    def request(self) -> Request:
        """What was asked for."""
        return self.answer.request

    @property
    def result(self) -> Segmentation:
        """What came out."""
        return self.answer.result

    @property
    def runs(self) -> list[Answer]:
        """All runs that need not be made again, the present one first."""
        dense = [] if self.dense is None else [self.dense]
        return [self.answer, *dense, *self.earlier]

    def show_next(self, answer: Answer) -> None:
        """Remember the present answer, and take a new one."""
        self.earlier = [*self.earlier, self.answer][-EARLIER:]
        self._take(answer)

    def go_back(self) -> None:
        """Take the answer before, for good."""
        self._take(self.earlier.pop())

    def dense_twin(self) -> Segmentation | None:
        """Return the dense twin of the present answer, None if it has not run yet."""
        twin = twin_of(self.request)
        return next((run.result for run in self.runs if run.request.same_as(twin)), None)

    def remember_dense(self, answer: Answer) -> None:
        """Keep the dense twin of the present answer, so that nobody runs it again."""
        if self.dense_twin() is None:
            self.dense = answer

    def _take(self, answer: Answer) -> None:
        self.answer, self.kept = answer, False


def twin_of(request: Request) -> Request:
    """Return the request of the dense twin: the model's own rule, with nothing pruned."""
    choice = Choice(request.choice.model)
    return replace(request, choice=choice, setting=None if choice.control is None else 1.0)
