"""A volume up to the first stage, ready to be finished at any setting."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sparseseg.calls import Call, Front, Scored, count_tokens, group_windows
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.canvas import Canvas
from napari_sparseseg.devices import PeakMemory, synchronise
from napari_sparseseg.errors import InputError
from napari_sparseseg.estimate import Sizes
from napari_sparseseg.exhaustion import exhausted, forget_locals, giving_back, release_cards
from napari_sparseseg.intensity import check_intensity, normalise
from napari_sparseseg.methods import checked_setting
from napari_sparseseg.placement import grid_lead, pad_to_grid, place_windows
from napari_sparseseg.planning import Planning
from napari_sparseseg.probability import Probabilities
from napari_sparseseg.progress import CancelToken, Progress, silent
from napari_sparseseg.recorder import Recorder
from napari_sparseseg.report import make_report
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.segmentation import Segmentation
from napari_sparseseg.steady import steady
from napari_sparseseg.tokens import TokenGrid
from napari_sparseseg.volume import Volume

if TYPE_CHECKING:
    from napari_sparseseg.segmenter import Segmenter

PREVIEW_AIR, PREVIEW_PRUNED, PREVIEW_OPEN = 0, 1, 2

T = TypeVar("T")


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
        self.network = segmenter.network
        self.closed = False
        self.calls: list[Call] = []
        self.scored: list[Scored] = []  # stays while the calls are made anew
        self.memory = PeakMemory(segmenter.device)
        self.planning = Planning(segmenter.budget, segmenter.device, segmenter.means.pack_windows)
        # no lambda here: a traceback holds on to what a function closes over
        self._in_steps(partial(self._prepare, progress, cancel), progress)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def device(self) -> str:
        """Where the network runs: the segmenter's device, or the CPU where that was too small."""
        return self.planning.plan.device

    def close(self) -> None:
        """Give the cached features back; the session cannot run any more."""
        if self.closed:
            return
        self.closed = True
        self.calls, self.scored = [], []
        del self.network
        release_cards()

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Hold for all work of the network."""
        with torch.inference_mode(), steady(self.device):
            yield

    def _check_open(self) -> None:
        if self.closed:
            raise InputError("This session was closed; open the volume again.")

    def _in_steps(self, work: Callable[[], T], progress: Progress) -> T:
        """Do some work; where memory runs out, do it again in a way that takes less."""
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:
                place = exhausted(error)
                if not place or not self.planning.ran_out(place):
                    raise
                forget_locals(error)
            self.calls = []
            progress(0, 1, self.planning.steps[-1])
            self._follow_plan()

    def _follow_plan(self) -> None:
        """Bring the network to where the plan wants it, and give back what it left."""
        if self.device != self.memory.device:
            self.network = self.segmenter.network_on(self.device)
            self.memory = PeakMemory(self.device)
        release_cards()

    def _prepare(self, progress: Progress, cancel: CancelToken) -> None:
        """Do all that no setting changes."""
        segmenter, start = self.segmenter, time.perf_counter()
        progress(0, 1, "Resampling")
        self.space = ModelSpace.of(self.volume, segmenter.info.spacing)
        self.planning.begin(self.space)
        with torch.inference_mode():
            image = self._image_on_grid()
            self.tissue = self._find_tissue(image)
        covered = self.tissue if segmenter.means.skip_windows else np.ones_like(self.tissue)
        grid = self.network.config.grid
        self.places = place_windows(covered, grid, segmenter.overlap)
        cancel.raise_if_cancelled()
        self.seconds = {"preprocess": time.perf_counter() - start}
        self._first_stage(image, progress, cancel)
        self.seconds["first_stage"] = time.perf_counter() - start - self.seconds["preprocess"]

    def _image_on_grid(self) -> Tensor:
        """Resample and normalise the volume, and lay the token grid over it."""
        config = self.network.config
        image, intensity = self.space.to_model(self.volume.data), self.segmenter.info.intensity
        check_intensity(image, intensity)
        image = normalise(image, intensity).to(self.device)
        self.lead = grid_lead(
            image > config.air_level, config.patch, config.air_fraction * config.patch**3
        )
        image = pad_to_grid(image, self.lead, config.patch)
        self.grid = TokenGrid.over(image.shape, _moved(self.space.affine, self.lead), config.patch)
        return image

    def _find_tissue(self, image: Tensor) -> NDArray[np.bool_]:
        """Mark the tokens that are not air, on the token grid."""
        tissue = ~self.network.find_air(image[None, None])[0].cpu().numpy()
        if not tissue.any():
            raise InputError("The scan holds no tissue; check that the image is the right one.")
        return tissue

    @property
    def _seen(self) -> NDArray[np.bool_]:
        """The tokens that the network is shown, on the token grid."""
        return self.tissue if self.segmenter.means.skip_air else np.ones_like(self.tissue)

    def _first_stage(self, image: Tensor, progress: Progress, cancel: CancelToken) -> None:
        """Run the blocks before the first stage on every window."""
        skip_air, config = self.segmenter.means.skip_air, self.network.config
        tokens = count_tokens(self.places, self.tissue, skip_air, config.grid)
        shown = int(self._seen.sum())
        width = self.segmenter.dtype.itemsize
        told = len(self.planning.steps)
        self.planning.fit(Sizes(self.space, tuple(tokens), shown, config, width))
        for step in self.planning.steps[told:]:
            progress(0, len(self.places), step)
        self._follow_plan()
        plan = self.planning.plan
        front = Front(self.network, image.to(plan.device), skip_air)
        calls: list[Call] = []
        with self._computing():
            for group in group_windows(tokens, plan.packed):
                cancel.raise_if_cancelled()
                progress(group.start, len(self.places), "First encoder blocks")
                calls.append(Call.of(self.places[group], front, plan.cached))
        synchronise(plan.device)
        cancel.raise_if_cancelled()
        self.calls, self.scored = calls, [call.scored for call in calls]

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
        network = self.network
        result = np.full(self.grid.shape, PREVIEW_AIR, dtype=np.uint8)
        for scored in self.scored:
            with torch.inference_mode():
                keeps = [network.sparsifier.decide(0, s, setting).keep for s in scored.scores]
            state = np.full((len(scored.places), *network.config.grid), PREVIEW_AIR, dtype=np.uint8)
            kept = torch.cat(keeps).cpu().numpy()
            cells = scored.cells.cpu().numpy()
            state.reshape(-1)[cells] = np.where(kept, PREVIEW_OPEN, PREVIEW_PRUNED)
            for place, window in zip(scored.places, state, strict=True):
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
        with giving_back():
            run = partial(self._run, setting, progress, cancel, probabilities)
            return self._in_steps(run, progress)

    def _run(
        self, setting: float, progress: Progress, cancel: CancelToken, keep: bool
    ) -> Segmentation:
        if not self.calls:  # given up where memory ran out
            self._prepare(progress, cancel)
        start = time.perf_counter()
        recorder = Recorder(self.grid, self.network, self.segmenter.means.trace)
        with self._computing():
            scores = self._encode_and_decode(setting, recorder, progress, cancel)
            recorder.add_confidence(scores)
            network_seconds = time.perf_counter() - start
            cancel.raise_if_cancelled()
            steps = len(self.places) + 1
            progress(steps - 1, steps, "Back to the scan's own grid")
            labels = self.space.labels_to_volume(scores)
            kept = Probabilities(scores, self.space, self.volume.affine) if keep else None
            del scores  # the largest part of a run, else no longer needed
        cancel.raise_if_cancelled()
        seconds = {**self.seconds, "sparse_network": network_seconds}
        seconds["restore"] = time.perf_counter() - start - network_seconds
        # a later run of this session starts from what the first one prepared
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        result = self._result(labels, recorder, setting, seconds, kept)
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
        with giving_back():
            return self._in_steps(partial(self._probabilities, setting), silent)

    def _probabilities(self, setting: float) -> PatchScores:
        if not self.calls:
            self._prepare(silent, CancelToken())
        recorder = Recorder(self.grid, self.network, observe=False)
        with self._computing():
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
        network, plan = self.network, self.planning.plan
        active_blocks = self.segmenter.means.active_blocks
        canvas = Canvas(self._seen, network.config, self.places, plan.stitch)
        done = 0
        for call in self.calls:
            cancel.raise_if_cancelled()
            progress(done, len(self.places) + 1, "Encoding and decoding")
            output = network.finish(call.prepared(), setting, active_blocks)
            canvas.add(output, call.places)
            recorder.add(output, call.places)
            done += len(call.places)
        synchronise(plan.device)
        return canvas.result(self.lead)

    def _result(
        self,
        labels: NDArray[np.uint8],
        recorder: Recorder,
        setting: float,
        seconds: dict[str, float],
        probabilities: Probabilities | None,
    ) -> Segmentation:
        info, control = self.segmenter.info, self.segmenter.control
        volume = Volume(labels, self.volume.affine, f"{self.volume.name} segmentation")
        trace = recorder.trace()
        report = make_report(
            info,
            weights_sha256=self.segmenter.sha256,
            sparsifier=self.segmenter.sparsifier,
            setting={"name": control.name, "value": setting} if control else None,
            device=self.device,
            precision=self.segmenter.precision,
            seed=self.segmenter.seed,
            means=self.segmenter.means,
            overlap=self.segmenter.overlap,
            part=self.volume.part,
            notes=(*self.volume.notes, *self.planning.steps),
            labels=volume,
            tokens=trace.counts() if trace else {},
            gmacs={key: macs / 1e9 for key, macs in recorder.macs.items()},
            seconds=seconds,
            peak_memory_mb=self.memory.megabytes(),
            memory={**self.planning.facts(), "peak_mb": self.memory.added_megabytes()},
        )
        return Segmentation(volume, info.classes, info.colors, report, trace, probabilities)


def _moved(affine: NDArray[np.float64], lead: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the affine of a grid that begins ``lead`` voxels earlier."""
    shift = np.eye(4)
    shift[:3, 3] = -np.array(lead)
    return affine @ shift
