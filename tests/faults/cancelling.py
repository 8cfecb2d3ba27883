"""A session that is cancelled at each of its steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from napari_sparseseg.errors import Cancelled
from napari_sparseseg.progress import CancelToken
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.volume import Volume


class Impatient:
    """Progress that cancels at its n-th call.

    Parameters
    ----------
    patience : int
        Calls that pass before.
    """

    def __init__(self, patience: int) -> None:
        self.patience, self.calls, self.token = patience, 0, CancelToken()

    def __call__(self, done: int, total: int, step: str) -> None:
        if self.calls == self.patience:
            self.token.cancel()
        self.calls += 1


def cancelled_everywhere(segmenter: Segmenter, scan: Volume) -> Iterator[str | None]:
    """Cancel opening a scan and running it at each step, and use both again afterwards.

    Yields
    ------
    str or None
        What was wrong after each cancel, None for nothing.
    """
    with segmenter.open(scan) as session:
        expected = session.run(0.4).labels.data
        preview = session.preview(0.4)
        steps = Impatient(-1)
        segmenter.open(scan, steps, steps.token).close()
        for patience in range(steps.calls):
            yield _opening(segmenter, scan, patience, expected)
        steps = Impatient(-1)
        session.run(0.4, steps, steps.token)
        # the last call tells that all is done: there is nothing to cancel any more
        for patience in range(steps.calls - 1):
            impatient = Impatient(patience)
            try:
                session.run(0.4, impatient, impatient.token)
            except Cancelled:
                same = np.array_equal(session.run(0.4).labels.data, expected)
                same &= np.array_equal(session.preview(0.4), preview)
                yield None if same else f"other labels after a cancel at step {patience}"
            else:
                yield f"step {patience} of a run could not be cancelled"


def _opening(segmenter: Segmenter, scan: Volume, patience: int, expected: np.ndarray) -> str | None:
    impatient = Impatient(patience)
    try:
        segmenter.open(scan, impatient, impatient.token).close()
    except Cancelled:
        with segmenter.open(scan) as again:
            same = np.array_equal(again.run(0.4).labels.data, expected)
        return None if same else f"other labels after opening was cancelled at step {patience}"
    return f"step {patience} of opening could not be cancelled"
