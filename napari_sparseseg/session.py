"""A volume up to the first stage, ready to be finished at any setting."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.canvas import Canvas
from napari_sparseseg.devices import PeakMemory, memory_errors, synchronise
from napari_sparseseg.errors import InputError
from napari_sparseseg.intensity import check_intensity, normalise
from napari_sparseseg.methods import checked_setting
from napari_sparseseg.network import Prepared
from napari_sparseseg.placement import (
    Placement,
    cut_window,
    grid_lead,
    pad_to_grid,
    place_windows,
)
from napari_sparseseg.probability import Probabilities
from napari_sparseseg.progress import CancelToken, Progress, silent
from napari_sparseseg.recorder import Recorder
from napari_sparseseg.report import make_report
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.tokens import TokenGrid, TokenTrace
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from napari_sparseseg.segmenter import Segmenter

PREVIEW_AIR, PREVIEW_PRUNED, PREVIEW_OPEN = 0, 1, 2

TOKENS_PER_CALL = 2048
"""Windows are packed into one call up to so many tokens: enough to keep a processor busy, and no
more memory than one dense window takes."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The answer of one run.

    Attributes
    ----------
    labels : Volume
        uint8 class indices on the input's own grid.
    classes, colors : tuple of str
        Class names and colours; index 0 is background.
    report : dict
        Facts and figures of the run, JSON-ready (see :func:`report.make_report`).
    recorded : TokenTrace or None
        The trace, unless the run was not observed.
    probabilities : Probabilities or None
        What the labels were made from, where it was asked for.
    """

    labels: Volume
    classes: tuple[str, ...]
    colors: tuple[str, ...]
    report: dict[str, Any]
    recorded: TokenTrace | None
    probabilities: Probabilities | None = None

    @property
    def trace(self) -> TokenTrace:
        """What happened to every token.

        Raises
        ------
        InputError
            If the run was not observed.
        """
        if self.recorded is None:
            raise InputError("This run was made without a trace; switch it on.")
        return self.recorded


@dataclass(frozen=True, eq=False)
class _Call:
    """Windows that go through the network together.

    Attributes
    ----------
    places : list of Placement
        Where they lie.
    prepared : Prepared
        They, up to the first stage.
    """

    places: list[Placement]
    prepared: Prepared


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
        start = time.perf_counter()
        progress(0, 1, "Resampling")
        self.space = ModelSpace.of(self.volume, segmenter.info.spacing)
        image = self._image_on_grid()
        self.tissue = self._find_tissue(image)
        covered = self.tissue if segmenter.means.skip_windows else np.ones_like(self.tissue)
        grid = segmenter.network.config.grid
        self.places = place_windows(covered, grid, segmenter.overlap)
        cancel.raise_if_cancelled()
        self.seconds = {"preprocess": time.perf_counter() - start}
        self.calls = self._first_stage(image, progress, cancel)
        self.seconds["first_stage"] = time.perf_counter() - start - self.seconds["preprocess"]

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the cached features back; the session cannot run any more."""
        self.calls = []
        if self.segmenter.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _check_open(self) -> None:
        if not self.calls:
            raise InputError("This session was closed; open the volume again.")

    def _image_on_grid(self) -> Tensor:
        """Resample and normalise the volume, and lay the token grid over it."""
        config = self.segmenter.network.config
        resampled, intensity = self.space.to_model(self.volume.data), self.segmenter.info.intensity
        check_intensity(resampled, intensity)
        image = normalise(resampled, intensity).to(self.segmenter.device)
        self.lead = grid_lead(
            image > config.air_level, config.patch, config.air_fraction * config.patch**3
        )
        image = pad_to_grid(image, self.lead, config.patch)
        self.grid = TokenGrid.over(image.shape, _moved(self.space.affine, self.lead), config.patch)
        return image

    def _find_tissue(self, image: Tensor) -> NDArray[np.bool_]:
        """Mark the tokens that are not air, on the token grid."""
        tissue = ~self.segmenter.network.find_air(image[None, None])[0].cpu().numpy()
        if not tissue.any():
            raise InputError("The scan holds no tissue; check that the image is the right one.")
        return tissue

    def _first_stage(self, image: Tensor, progress: Progress, cancel: CancelToken) -> list[_Call]:
        """Run the blocks before the first stage on every window."""
        network, means = self.segmenter.network, self.segmenter.means
        config = network.config
        calls: list[_Call] = []
        with torch.inference_mode(), memory_errors():
            for places in self._packed():
                cancel.raise_if_cancelled()
                done = sum(len(call.places) for call in calls)
                progress(done, len(self.places), "First encoder blocks")
                windows = torch.stack(
                    [cut_window(image, p.origin, config.window, config.patch) for p in places]
                )[:, None]
                air = network.find_air(windows)
                if not means.skip_air:
                    air = torch.zeros_like(air)
                calls.append(_Call(places, network.prepare(windows, air)))
            synchronise(self.segmenter.device)
        return calls

    def _packed(self) -> Iterator[list[Placement]]:
        """Group the windows that go through the network in one call."""
        means, window = self.segmenter.means, self.segmenter.network.config.grid
        group: list[Placement] = []
        tokens = 0
        for place in self.places:
            more = int(self.tissue[place.outer].sum()) if means.skip_air else math.prod(window)
            if group and (not means.pack_windows or tokens + more > TOKENS_PER_CALL):
                yield group
                group, tokens = [], 0
            group.append(place)
            tokens += more
        yield group

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
        network = self.segmenter.network
        result = np.full(self.grid.shape, PREVIEW_AIR, dtype=np.uint8)
        for call in self.calls:
            first = call.prepared.first
            with torch.inference_mode():
                keeps = [network.sparsifier.decide(0, s, setting).keep for s in first.scores]
            state = np.full((len(call.places), *network.config.grid), PREVIEW_AIR, dtype=np.uint8)
            kept = torch.cat(keeps).cpu().numpy()
            cells = first.layout.cells.cpu().numpy()
            state.reshape(-1)[cells] = np.where(kept, PREVIEW_OPEN, PREVIEW_PRUNED)
            for place, window in zip(call.places, state, strict=True):
                result[place.outer][place.owned] = window[place.inner][place.owned]
        return result

    def run(
        self,
        setting: float | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        probabilities: bool = False,
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
            Checked between calls of the network.
        probabilities : bool
            Keep what the labels are made from; until the result is given up it takes the memory
            of all classes on the model grid.

        Raises
        ------
        InputError
            If the setting is out of range, or the session was closed.
        Cancelled
            If the token was set.
        DeviceError
            If the device runs out of memory.
        """
        progress, cancel = progress or silent, cancel or CancelToken()
        setting = self._usable(setting)
        start = time.perf_counter()
        recorder = Recorder(self.grid, self.segmenter.network, self.segmenter.means.trace)
        with torch.inference_mode(), memory_errors():
            scores = self._encode_and_decode(setting, recorder, progress, cancel)
            recorder.add_confidence(scores)
            network_seconds = time.perf_counter() - start
            cancel.raise_if_cancelled()
            steps = len(self.places) + 1
            progress(steps - 1, steps, "Back to the scan's own grid")
            labels = self.space.labels_to_volume(scores)
        cancel.raise_if_cancelled()
        seconds = {**self.seconds, "sparse_network": network_seconds}
        seconds["restore"] = time.perf_counter() - start - network_seconds
        # a later run of this session starts from what the first one prepared
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        result = self._result(labels, recorder, setting, seconds)
        if probabilities:
            kept = Probabilities(scores, self.space, self.volume.affine)
            result = replace(result, probabilities=kept)
        progress(steps, steps, "Done")
        return result

    def probabilities(self, setting: float | None = None) -> PatchScores:
        """Return the class probabilities that :meth:`run` makes its labels from.

        Parameters
        ----------
        setting : float, optional
            As for :meth:`run`.

        Returns
        -------
        PatchScores
            On the model grid (``space``), for every token that the network is shown; the others
            are background with certainty.

        Raises
        ------
        InputError
            If the setting is out of range, or the session was closed.
        DeviceError
            If the device runs out of memory.
        """
        setting = self._usable(setting)
        recorder = Recorder(self.grid, self.segmenter.network, observe=False)
        with torch.inference_mode(), memory_errors():
            return self._encode_and_decode(setting, recorder, silent, CancelToken())

    def _usable(self, setting: float | None) -> float:
        """Return the setting, the model's default for None, if the session can run at it."""
        control = self.segmenter.control
        if setting is None:
            setting = self.segmenter.info.default_setting if control else 1.0
        checked_setting(setting, control)
        self._check_open()
        return setting

    def _encode_and_decode(
        self, setting: float, recorder: Recorder, progress: Progress, cancel: CancelToken
    ) -> PatchScores:
        """Run the network behind the first stage, and join the answers of the windows."""
        network, means = self.segmenter.network, self.segmenter.means
        seen = self.tissue if means.skip_air else np.ones_like(self.tissue)
        canvas = Canvas(seen, network.config, self.places, self.segmenter.device)
        done = 0
        for call in self.calls:
            cancel.raise_if_cancelled()
            progress(done, len(self.places) + 1, "Encoding and decoding")
            output = network.finish(call.prepared, setting, means.active_blocks)
            canvas.add(output, call.places)
            recorder.add(output, call.places)
            done += len(call.places)
        synchronise(self.segmenter.device)
        return canvas.result(self.lead)

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
            tokens=trace.counts() if trace else {},
            gmacs={key: macs / 1e9 for key, macs in recorder.macs.items()},
            seconds=seconds,
            peak_memory_mb=self.memory.megabytes(),
        )
        return Segmentation(volume, info.classes, info.colors, report, trace)


def _moved(affine: NDArray[np.float64], lead: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the affine of a grid that begins ``lead`` voxels earlier."""
    shift = np.eye(4)
    shift[:3, 3] = -np.array(lead)
    return affine @ shift
