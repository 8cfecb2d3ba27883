"""The engine behind the wire: one model and one open volume at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.errors import InputError
from napari_sparseseg.memory import check_room_for_engine
from napari_sparseseg.progress import CancelToken, Progress
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import ModelInfo, checksum, find_model, models
from napari_sparseseg.worker.answers import (
    control_answer,
    grid_answer,
    models_answer,
    preview_answer,
    run_answer,
)
from napari_sparseseg.worker.folder import Files, Folder
from napari_sparseseg.worker.params import Open, Preview, Run

if TYPE_CHECKING:
    from napari_sparseseg.segmenter import Segmenter
    from napari_sparseseg.session import Segmentation, Session

_LONGEST_NAME = 80  # characters of a scan's name in messages


class Engine:
    """Answers requests; torch is imported by the first that needs it.

    Parameters
    ----------
    folder : Folder
        Where scans come from.
    log : callable
        Is told what a user may want to know.
    """

    def __init__(self, folder: Folder, log: Callable[[str], None]) -> None:
        self._folder, self._log = folder, log
        self._wanted: tuple[Any, ...] = ()
        self._segmenter: Segmenter | None = None
        self._session: Session | None = None
        self._dense: NDArray[np.uint8] | None = None

    def models(self) -> dict[str, Any]:
        """List the shipped models and the controls."""
        return models_answer(models())

    def devices(self) -> dict[str, Any]:
        """List the processors, and the memory of each graphics card."""
        from napari_sparseseg.devices import available_devices, device_memory

        return {
            "devices": [
                {"name": name, "title": title, **device_memory(name)}
                for name, title in available_devices()
            ]
        }

    def open(self, params: Open, progress: Progress, cancel: CancelToken) -> dict[str, Any]:
        """Prepare a volume; :meth:`forget` the one before first, whose memory may be needed."""
        info = find_model(params.model)
        name = " ".join(params.volume.name.split())[:_LONGEST_NAME] or "scan"
        progress(0, 0, "Reading the scan")
        voxels = self._folder.read(params.volume.data, name)
        volume = Volume(voxels, np.array(params.volume.affine), name).validated()
        cancel.raise_if_cancelled()
        progress(0, 0, "Loading the model")
        segmenter = self._load(info, params)
        cancel.raise_if_cancelled()
        session = self._session = segmenter.open(volume, progress, cancel)
        return {
            "grid": grid_answer(session.grid),
            "control": control_answer(segmenter.control),
            "device": session.device,
            "precision": segmenter.precision,
        }

    def run(
        self, params: Run, files: Files, progress: Progress, cancel: CancelToken
    ) -> dict[str, Any]:
        """Segment the open volume at a setting."""
        session = self._opened()
        result = session.run(params.setting, progress, cancel)
        dice = self._dice(session, result, progress, cancel) if params.compare_dense else None
        cancel.raise_if_cancelled()
        return run_answer(result, dice, files)

    def preview(self, params: Preview, files: Files) -> dict[str, Any]:
        """Tell which tokens the first stage lets go on; safe beside a run."""
        session = self._opened()
        preview = session.preview(params.setting)
        segmenter = session.segmenter
        return preview_answer(preview, segmenter.rule, len(segmenter.stages), files)

    def forget(self) -> None:
        """Give up the volume that is open, if there is one."""
        self._session = self._dense = None

    def close(self) -> dict[str, Any]:
        """Give the volume, the model and their memory back."""
        loaded = self._segmenter is not None
        self.forget()
        self._segmenter = None
        if loaded:
            from napari_sparseseg.exhaustion import release_cards

            release_cards()
        return {}

    def _opened(self) -> Session:
        if self._session is None:
            raise InputError("No scan is open; open one first.")
        return self._session

    def _load(self, info: ModelInfo, params: Open) -> Segmenter:
        """Return the network that is there if it is the one that is wanted, else load it."""
        sha256 = info.sha256 or checksum(info.path)
        wanted = (
            info, sha256, params.device, params.precision, params.sparsifier, params.memory_gb
        )  # fmt: skip
        if self._segmenter is None or wanted != self._wanted:
            self.close()
            check_room_for_engine()
            from napari_sparseseg.segmenter import Segmenter

            self._segmenter = Segmenter(
                info,
                params.device,
                params.precision,
                sparsifier=params.sparsifier,
                memory_gb=params.memory_gb,
            )
            self._wanted = wanted
            self._log(
                f"{info.title} is loaded on {self._segmenter.device}, "
                f"computing in {self._segmenter.precision}."
            )
        return self._segmenter

    def _dice(
        self, session: Session, result: Segmentation, progress: Progress, cancel: CancelToken
    ) -> list[float | None]:
        """Compare a result with the dense twin, which runs once for each open volume."""
        from napari_sparseseg.analysis.metrics import dice_per_class

        if self._dense is None:
            self._dense = self._dense_labels(session, result, progress, cancel)
        cancel.raise_if_cancelled()
        progress(0, 0, "Comparing with the dense twin")
        return dice_per_class(result.labels.data, self._dense, len(result.classes))

    def _dense_labels(
        self, session: Session, result: Segmentation, progress: Progress, cancel: CancelToken
    ) -> NDArray[np.uint8]:
        """Segment with the model's own rule and nothing pruned."""

        def tell(done: int, total: int, what: str) -> None:
            progress(done, total, f"Dense twin: {what[0].lower()}{what[1:]}")

        mine = session.segmenter
        setting = result.report["setting"]
        if mine.control is not None:
            if setting["value"] == 1:
                return result.labels.data
            return session.run(1.0, tell, cancel).labels.data
        if mine.sparsifier == mine.info.method:
            return result.labels.data  # it prunes nothing
        # a control that cannot be told to leave nothing out: the model itself has to run
        from napari_sparseseg.segmenter import Segmenter

        own = Segmenter(mine.info, mine.device, mine.precision, memory_gb=mine.memory_gb)
        with own.open(session.volume, tell, cancel) as twin:
            return twin.run(1.0, tell, cancel).labels.data
