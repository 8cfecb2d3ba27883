"""The work of a comparison: the runs that it needs, then the figures; in the engine's thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_sparseseg.plugin.inspector.targets import DENSE_KEY, Target
from napari_sparseseg.plugin.runner import Answer, Request
from napari_sparseseg.plugin.shown import twin_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_sparseseg.analysis.inspection import Inspection
    from napari_sparseseg.plugin.inspector.references import Reference
    from napari_sparseseg.progress import CancelToken, Progress
    from napari_sparseseg.session import Segmentation, Session


@dataclass(frozen=True, eq=False)
class Compared:
    """What a comparison gives.

    Attributes
    ----------
    inspection : Inspection
        All that it found.
    dense : Answer
        The dense twin, which took part in it.
    difference : ndarray of uint8
        Its map of differences as a layer holds it, slice by slice in memory: a copy, so that
        what the user paints does not change what was found.
    """

    inspection: Inspection
    dense: Answer
    difference: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Comparing:
    """Compares a result; to be called with its session, as a :data:`runner.Work`.

    The dense twin takes part in every comparison: only it can tell whether pruning caused what
    differs from a reference.

    Attributes
    ----------
    answer : Answer
        The result.
    known : sequence of Answer
        Runs that need not be made again.
    target : Target
        What to compare with.
    reference : Reference or None
        The labels of the target, where it is a layer.
    resample : bool
        Whether they may be brought to the scan's grid.
    low : float
        Confidence below which a place is noted.
    """

    answer: Answer
    known: Sequence[Answer]
    target: Target
    reference: Reference | None
    resample: bool
    low: float

    def __call__(self, session: Session, progress: Progress, cancel: CancelToken) -> Compared:
        """Run what is missing, and compare."""
        from napari_sparseseg.analysis.inspection import inspect

        twin = twin_of(self.answer.request)
        dense = self._run(twin, "Dense twin", session, progress, cancel)
        other = None if self.reference is None else self.reference.volume()
        if self.target.request is not None and self.target.key != DENSE_KEY:
            title = self.target.request.choice.rule.title
            other = self._run(self.target.request, title, session, progress, cancel).labels
        progress(0, 0, "Comparing")
        cancel.raise_if_cancelled()
        inspection = inspect(
            session.volume,
            self.answer.result,
            dense=dense,
            other=other,
            other_title=self.target.title,
            resample=self.resample,
            low=self.low,
            progress=progress,
            cancel=cancel,
        )
        assert inspection.comparison is not None, "the dense twin took part"
        scan, difference = self.answer.request.scan, inspection.comparison.difference
        on_layer = scan.on_layer(difference).copy(order="C")
        cancel.raise_if_cancelled()
        return Compared(inspection, Answer(twin, dense), on_layer)

    def _run(
        self,
        request: Request,
        title: str,
        session: Session,
        progress: Progress,
        cancel: CancelToken,
    ) -> Segmentation:
        """Take a result that is there; else use the session, or one of its own on its volume."""
        for known in self.known:
            if known.request.same_as(request):
                return known.result

        def tell(done: int, total: int, what: str) -> None:
            progress(done, total, f"{title}: {what[0].lower()}{what[1:]}")

        if request.shares_session(self.answer.request):
            return session.run(request.setting, tell, cancel)
        from napari_sparseseg.segmenter import Segmenter

        choice = request.choice
        segmenter = Segmenter(
            choice.model,
            request.device,
            request.precision,
            sparsifier=choice.sparsifier,
            memory_gb=request.memory_gb,
        )
        with segmenter.open(session.volume, tell, cancel) as other:
            return other.run(request.setting, tell, cancel)
