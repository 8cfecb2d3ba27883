"""The engine: a network on a device.

A session on one volume does once what no setting changes (resampling, normalisation, the blocks
before the first stage, their scores) and then answers any number of settings.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sparseseg.devices import resolve_device, resolve_precision
from napari_sparseseg.errors import InputError
from napari_sparseseg.exhaustion import giving_back, release_cards
from napari_sparseseg.means import Means
from napari_sparseseg.memory import MemoryBudget
from napari_sparseseg.methods import Control, Method, check_sparsifier, rule_of
from napari_sparseseg.network.sparsifiers import make_control
from napari_sparseseg.placement import OVERLAP
from napari_sparseseg.progress import CancelToken, Progress, silent
from napari_sparseseg.session import Segmentation, Session
from napari_sparseseg.volume import Volume
from napari_sparseseg.weights import DEFAULT_MODEL, ModelInfo, checksum, find_model, load_network

if TYPE_CHECKING:
    from napari_sparseseg.network import SparseUNETR

ALL_MEANS = Means()


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
    means : Means
        What makes a run fast; each can be switched off.
    overlap : float
        Least common part of neighbouring windows, as a fraction of a window.
    memory_gb : float, optional
        The most that a run may take, see :class:`MemoryBudget`; a share of what is free if left
        out.

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
        means: Means = ALL_MEANS,
        overlap: float = OVERLAP,
        memory_gb: float | None = None,
    ) -> None:
        self.budget = MemoryBudget(memory_gb)
        self.info = model if isinstance(model, ModelInfo) else find_model(model)
        self.sparsifier = sparsifier or self.info.method
        check_sparsifier(self.sparsifier, self.info.method, self.info.name)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.sha256 = self.info.sha256 or checksum(self.info.path)
        self.seed, self.means, self.overlap = seed, means, overlap
        self._network: SparseUNETR | None = None
        with giving_back():
            self._network = self.network_on(self.device)

    @property
    def network(self) -> SparseUNETR:
        """The network on its device.

        Raises
        ------
        InputError
            If the segmenter was closed.
        """
        if self._network is None:
            raise InputError("This segmenter was closed; make another one.")
        return self._network

    def close(self) -> None:
        """Give the network's memory back; an open session keeps it until it is closed."""
        self._network = None
        release_cards()

    def network_on(self, device: str) -> SparseUNETR:
        """Load the network once more, with its rule and precision, on a processor.

        Raises
        ------
        ModelError
            If the weights are not there any more.
        """
        # what the report names is what was loaded, even should the file change meanwhile
        network = load_network(replace(self.info, sha256=self.sha256))
        if self.sparsifier != self.info.method:
            network.sparsifier = make_control(self.sparsifier, network.sparsifier, self.seed)
        network.to_precision(self.dtype)
        return network.to(device)

    @property
    def memory_gb(self) -> float | None:
        """The most that a run may take (GB), None for a share of what is free."""
        return self.budget.gigabytes

    @property
    def precision(self) -> str:
        """Precision of the computation, "float32" or "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def rule(self) -> Method:
        """The rule in force: it says what the setting is and what maps there are."""
        return rule_of(self.info.method, self.sparsifier)

    @property
    def control(self) -> Control | None:
        """Declaration of the setting, None if there is none."""
        return self.rule.control

    @property
    def stages(self) -> tuple[int, ...]:
        """Number of encoder blocks before each place where the rule decides."""
        return self.network.sparsifier.stages()

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
        with giving_back():
            return Session(self, volume, progress or silent, cancel or CancelToken())

    def segment(self, volume: Volume, setting: float | None = None) -> Segmentation:
        """Segment one volume at one setting; see :meth:`open` and :meth:`Session.run`."""
        with self.open(volume) as session:
            return session.run(setting)
