"""All open scans, one after the other, with the present choices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.plugin.asking import CHANGED, NO_IMAGE, notes_of, request_of
from napari_sparseseg.plugin.failures import sentence_of
from napari_sparseseg.plugin.runner import Answer

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sparseseg.plugin.controls import Controls
    from napari_sparseseg.plugin.images import Images
    from napari_sparseseg.plugin.panels import Message
    from napari_sparseseg.plugin.runner import Request, Runner
    from napari_sparseseg.session import Segmentation


class Batch:
    """Runs one request for each scan; a scan that fails stops none of the others.

    Parameters
    ----------
    images : Images
        The scans.
    runner : Runner
        Who runs them.
    controls : Controls
        Where progress is shown; its choices wait.
    message : Message
        Where the outcome is told.
    show : callable
        Shows the answer of an image.
    idle : callable
        Shows that nothing runs any more.
    """

    def __init__(
        self,
        images: Images,
        runner: Runner,
        controls: Controls,
        message: Message,
        show: Callable[[Image, Answer], None],
        idle: Callable[[], None],
    ) -> None:
        self._images, self._runner = images, runner
        self._controls, self._message = controls, message
        self._show, self._idle = show, idle
        self._waiting: list[Image] = []
        self._number = self._total = 0
        self._failures: list[str] = []
        self._notes: list[str] = []

    @property
    def active(self) -> bool:
        """Whether scans are being run."""
        return self._total > 0

    def start(self) -> None:
        """Run all open scans."""
        self._waiting = self._images.layers()
        self._number, self._total = 0, len(self._waiting)
        self._failures, self._notes = [], []
        self._next()

    def stop(self) -> str:
        """Run no further scan, and say how far it came; "" if nothing was going on."""
        if not self.active:
            return ""
        done, total = self._number - 1 - len(self._failures), self._total
        self._end()
        return f"Stopped after {done} of {total} scans; what was segmented stays."

    def _next(self) -> None:
        """Run the next scan that is still there, or tell how it went."""
        while self._waiting:
            image = self._waiting.pop(0)
            self._number += 1
            if self._images.find(image.unique_id) is None:
                continue
            try:
                request = request_of(image, self._controls)
            except SparseSegError as error:
                self._failures.append(f"{image.name}: {error}")
                continue
            self._controls.set_busy(True, locked=True)
            self._controls.prefix = f"Scan {self._number} of {self._total}: "
            self._runner.perform(
                request,
                request.segment,
                partial(self._on_done, image, request),
                partial(self._on_failed, image),
            )
            return
        self._tell()

    def _on_done(self, image: Image, request: Request, result: Segmentation) -> None:
        if self._images.find(image.unique_id) is not None:
            self._take(image, Answer(request, result))
        self._next()

    def _take(self, image: Image, answer: Answer) -> None:
        """Show an answer, unless it is of voxels that the image does not hold any more."""
        if not answer.request.scan.still_is(image):
            self._failures.append(CHANGED.format(name=image.name))
            return
        self._show(image, answer)
        self._notes += (f"{image.name}: {note}" for note in notes_of(answer))

    def _on_failed(self, image: Image, error: Exception) -> None:
        self._failures.append(f"{image.name}: {sentence_of(error)}")
        self._next()

    def _tell(self) -> None:
        total, failures, notes = self._total, self._failures, self._notes
        self._end()
        if not total:
            self._message.show_error(NO_IMAGE)
        elif failures:
            head = f"{len(failures)} of {total} scans could not be segmented."
            self._message.show_error("\n".join([head, *failures, *notes]))
        else:
            done = f"Segmented {total} scan{'s' if total > 1 else ''}."
            self._message.show_note("\n".join([done, *notes]))

    def _end(self) -> None:
        self._waiting, self._total = [], 0
        self._controls.prefix = ""
        self._idle()
