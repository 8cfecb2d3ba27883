"""The engine: a network on a device, and its session on one volume.

A session does once what no setting changes (resampling, normalisation, the blocks before
the first stage, their scores) and then answers any number of settings.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.devices import PeakMemory, resolve_device, resolve_precision
from napari_sparseseg.errors import Cancelled, DeviceError, InputError
from napari_sparseseg.intensity import normalise
from napari_sparseseg.methods import Control, check_sparsifier, control_of
from napari_sparseseg.network import Prepared
from napari_sparseseg.network.sparsifiers import make_control
from napari_sparseseg.placement import (
    Canvas,
    cut_window,
    grid_lead,
    pad_to_grid,
    place_windows,
)
from napari_sparseseg.recorder import Recorder
from napari_sparseseg.report import make_report
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import DEFAULT_MODEL as DEFAULT_MODEL
from napari_sparseseg.weights import ModelInfo, checksum, find_model, load_network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_sparseseg.network import SparseUNETR

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is being done)."""

PREVIEW_AIR, PREVIEW_PRUNED, PREVIEW_OPEN = 0, 1, 2


class CancelToken:
    """A flag that asks a run to stop at its next window; safe to set from any thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Stop here if asked to.

        Raises
        ------
        Cancelled
            If :meth:`cancel` was called.
        """
        if self.cancelled:
            raise Cancelled("The run was cancelled; nothing was changed.")


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer of one run.

    Attributes
    ----------
    labels : Volume
        uint8 class indices on the input's own grid.
    trace : TokenTrace
        What happened to every token.
    classes, colors : tuple of str
        Class names and colours; index 0 is background.
    report : dict
        Facts and figures of the run, JSON-ready (see :func:`report.make_report`).
    """

    labels: Volume
    trace: TokenTrace
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    report: dict[str, Any]


class Segmenter:
    """A network on a device.

    Parameters
    ----------
    model : str, Path or ModelInfo
        Name of a shipped model, path of a weights file, or a model's facts.
    device : str
        "auto", "cpu", "cuda" or "cuda:n".
    precision : str
        "auto", "float32" or "bfloat16".
    sparsifier : str
        Name of a control that takes the place of the model's own sparsifier; "" or the name of
        the model's method for its own.
    seed : int
        Seed of what a control draws.

    Attributes
    ----------
    info : ModelInfo
        The model.
    sparsifier : str
        Name of the method or control that decides.

    Raises
    ------
    InputError, ModelError, DeviceError
        If the sparsifier, the model or the device cannot be used.
    """

    def __init__(
        self,
        model: str | Path | ModelInfo = DEFAULT_MODEL,
        device: str = "auto",
        precision: str = "auto",
        sparsifier: str = "",
        seed: int = 0,
    ) -> None:
        self.info = model if isinstance(model, ModelInfo) else find_model(model)
        self.sparsifier = sparsifier or self.info.method
        check_sparsifier(self.sparsifier, self.info.method, self.info.name)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.sha256 = self.info.sha256 or checksum(self.info.path)
        network = load_network(self.info)
        if self.sparsifier != self.info.method:
            network.sparsifier = make_control(self.sparsifier, network.sparsifier, seed)
        network.to_precision(self.dtype)
        with _gpu_errors():
            self.network: SparseUNETR = network.to(self.device)

    @property
    def precision(self) -> str:
        """Precision of the computation, "float32" or "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def control(self) -> Control | None:
        """Declaration of the setting, None if there is none."""
        return control_of(self.info.method, self.sparsifier)

    def open(
        self,
        volume: Volume,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Session:
        """Prepare a volume: everything that no setting changes.

        Raises
        ------
        InputError
            If the volume cannot be segmented.
        Cancelled
            If the token was set.
        DeviceError
            If the device runs out of memory.
        """
        return Session(self, volume, progress or _silent, cancel or CancelToken())

    def segment(self, volume: Volume, setting: float | None = None) -> Segmentation:
        """Segment one volume at one setting; see :meth:`open` and :meth:`Session.run`."""
        with self.open(volume) as session:
            return session.run(setting)


class Session:
    """A volume up to the first stage, ready to be finished at any setting.

    Made by :meth:`Segmenter.open`. Use it as a context manager, or :meth:`close` it, to give
    the memory back.

    Attributes
    ----------
    volume : Volume
        The input.
    grid : TokenGrid
        Its token grid.
    """

    def __init__(
        self, segmenter: Segmenter, volume: Volume, progress: Progress, cancel: CancelToken
    ) -> None:
        self.segmenter = segmenter
        self.volume = volume.validated()
        self.memory = PeakMemory(segmenter.device)
        config = segmenter.network.config
        start = time.perf_counter()
        progress(0, 1, "Resampling")
        self.space = ModelSpace.of(self.volume, segmenter.info.spacing)
        image = normalise(self.space.to_model(self.volume.data)).to(segmenter.device)
        self.lead = grid_lead(
            image > config.air_level, config.patch, config.air_fraction * config.patch**3
        )
        image = pad_to_grid(image, self.lead, config.patch)
        self.grid = TokenGrid.over(image.shape, _moved(self.space.affine, self.lead), config.patch)
        tissue = ~segmenter.network.find_air(image[None, None])[0].cpu().numpy()
        self.places = place_windows(tissue, config.grid)
        if not self.places:
            raise InputError("The scan holds no tissue; check that the image is the right one.")
        cancel.raise_if_cancelled()
        self.seconds = {"preprocess": time.perf_counter() - start}
        self.prepared = self._first_stage(image, progress, cancel)
        self.seconds["first_stage"] = time.perf_counter() - start - self.seconds["preprocess"]

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the cached features back; the session cannot run any more."""
        self.prepared = []
        if self.segmenter.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _check_open(self) -> None:
        if not self.prepared:
            raise InputError("This session was closed; open the volume again.")

    def _first_stage(
        self, image: torch.Tensor, progress: Progress, cancel: CancelToken
    ) -> list[Prepared]:
        network = self.segmenter.network
        config = network.config
        prepared = []
        with torch.inference_mode(), _gpu_errors():
            for number, place in enumerate(self.places):
                cancel.raise_if_cancelled()
                progress(number, len(self.places), "First encoder blocks")
                window = cut_window(image, place.origin, config.window, config.patch)
                prepared.append(network.prepare(window[None, None]))
            _synchronise(self.segmenter.device)
        return prepared

    def preview(self, setting: float) -> NDArray[np.uint8]:
        """Tell which tokens the first stage lets go on, from the cached scores alone.

        Parameters
        ----------
        setting : float
            In (0, 1].

        Returns
        -------
        ndarray of uint8
            ``grid.shape``: 0 air, 1 does not go on at the first stage, 2 goes on.

        Raises
        ------
        InputError
            If the setting is out of range, or the session was closed.
        """
        checked_setting(setting, self.segmenter.control)
        self._check_open()
        sparsifier = self.segmenter.network.sparsifier
        result = np.full(self.grid.shape, PREVIEW_AIR, dtype=np.uint8)
        for place, prepared in zip(self.places, self.prepared, strict=True):
            with torch.inference_mode():
                keep = sparsifier.decide(0, prepared.first.scores[0], setting).keep
            window = np.full(self.segmenter.network.config.grid, PREVIEW_AIR, dtype=np.uint8)
            states = np.where(keep.cpu().numpy(), PREVIEW_OPEN, PREVIEW_PRUNED)
            window.reshape(-1)[prepared.first.layout.cells.cpu().numpy()] = states
            result[place.outer][place.owned] = window[place.inner][place.owned]
        return result

    def run(
        self,
        setting: float | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
    ) -> Segmentation:
        """Decide, encode, decode and bring the labels back to the volume's own grid.

        Parameters
        ----------
        setting : float, optional
            The method's setting, in (0, 1], where 1 prunes nothing; the model's default if
            left out.
        progress : callable, optional
            See :data:`Progress`.
        cancel : CancelToken, optional
            Checked between windows.

        Raises
        ------
        InputError
            If the setting is out of range, or the session was closed.
        Cancelled
            If the token was set.
        DeviceError
            If the device runs out of memory.
        """
        progress, cancel = progress or _silent, cancel or CancelToken()
        control = self.segmenter.control
        if setting is None:
            setting = self.segmenter.info.default_setting if control else 1.0
        checked_setting(setting, control)
        self._check_open()
        start = time.perf_counter()
        network = self.segmenter.network
        config = network.config
        recorder = Recorder(self.grid, network)
        with torch.inference_mode(), _gpu_errors():
            canvas = Canvas(config.classes, self.grid, config.window, self.segmenter.device)
            for number, (place, prepared) in enumerate(
                zip(self.places, self.prepared, strict=True)
            ):
                cancel.raise_if_cancelled()
                progress(number, len(self.places) + 1, "Encoding and decoding")
                output = network.finish(prepared, setting)
                canvas.add(output.logits[0].float().softmax(dim=0), place)
                recorder.add(output, place)
            _synchronise(self.segmenter.device)
            network_seconds = time.perf_counter() - start
            cancel.raise_if_cancelled()
            progress(len(self.places), len(self.places) + 1, "Back to the scan's own grid")
            probabilities = canvas.result(self.lead, self.space.shape)
            labels = self.space.labels_to_volume(probabilities)
        cancel.raise_if_cancelled()
        seconds = {**self.seconds, "sparse_network": network_seconds}
        seconds["restore"] = time.perf_counter() - start - network_seconds
        # a later run of this session starts from what the first one prepared
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        result = self._result(labels, recorder, setting, seconds)
        progress(len(self.places) + 1, len(self.places) + 1, "Done")
        return result

    def _result(
        self,
        labels: NDArray[np.uint8],
        recorder: Recorder,
        setting: float,
        seconds: dict[str, float],
    ) -> Segmentation:
        info, control = self.segmenter.info, self.segmenter.control
        volume = Volume(labels, self.volume.affine, f"{self.volume.name} segmentation")
        trace = recorder.trace()
        report = make_report(
            info,
            weights_sha256=self.segmenter.sha256,
            sparsifier=self.segmenter.sparsifier,
            setting={"name": control.name, "value": setting} if control else None,
            device=self.segmenter.device,
            precision=self.segmenter.precision,
            labels=volume,
            tokens=trace.counts(),
            gmacs={"run": recorder.run / 1e9, "dense": recorder.dense / 1e9},
            seconds=seconds,
            peak_memory_mb=self.memory.megabytes(),
        )
        return Segmentation(volume, trace, info.classes, info.colors, report)


def checked_setting(setting: float, control: Control | None) -> float:
    """Return the setting if it can be used.

    Raises
    ------
    InputError
        If it is not in (0, 1], or there is none to set.
    """
    if control is None and setting != 1:
        raise InputError("This sparsifier has no setting; leave it out.")
    if not 0.0 < setting <= 1.0:
        name = control.name if control else "setting"
        raise InputError(
            f"The {name} {setting:g} is out of range; choose a value above 0 and up to 1."
        )
    return setting


def _moved(affine: NDArray[np.float64], lead: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the affine of a grid that begins ``lead`` voxels earlier."""
    shift = np.eye(4)
    shift[:3, 3] = -np.array(lead)
    return affine @ shift


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


@contextmanager
def _gpu_errors() -> Iterator[None]:
    """Turn an exhausted device into a sentence."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise DeviceError(
            "The graphics card ran out of memory; close other programs that use it or choose "
            "the CPU."
        ) from error


def _silent(done: int, total: int, what: str) -> None:
    """Report no progress."""
