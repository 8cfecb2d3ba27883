"""From the traces of windows to the trace of a volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from napari_sparseseg.network import Output, SparseUNETR, WindowTrace
from napari_sparseseg.placement import Placement
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.tokens import Dependencies, TokenGrid, TokenTrace


class Recorder:
    """Collects the traces and operation counts of the windows of one run.

    Attributes
    ----------
    macs : dict
        Multiply-accumulates: "run" of all that ran, "encoder" of the encoder blocks and of the
        scores among them; "dense" and "encoder_dense", the same of the dense twin on the same
        windows.

    Parameters
    ----------
    grid : TokenGrid
        Token grid of the volume.
    network : SparseUNETR
        The network that runs.
    observe : bool
        Whether to record the trace; operations are always counted.
    """

    def __init__(self, grid: TokenGrid, network: SparseUNETR, observe: bool = True) -> None:
        self.grid, self.network, self.observe = grid, network, observe
        self.stages, blocks = network.sparsifier.stages(), network.config.depth
        self.air = np.ones(grid.shape, dtype=bool)
        self.importance = np.full((len(self.stages), *grid.shape), np.nan, dtype=np.float32)
        self.left_stage = np.zeros(grid.shape, dtype=np.uint8)
        self.ran = np.zeros((blocks, *grid.shape), dtype=bool)
        self.confidence = np.full(grid.shape, np.nan, dtype=np.float32)
        self.dependencies: list[Dependencies] = []
        self.macs = dict.fromkeys(("run", "dense", "encoder", "encoder_dense"), 0)

    def add(self, output: Output, places: Sequence[Placement]) -> None:
        """Take the records of the tokens that these windows own, and count their operations."""
        run, dense = self.network.macs(output), self.network.dense_macs(output)
        self.macs["run"] += run.total
        self.macs["dense"] += dense.total
        # scoring counts: it is what the sparsifier costs where it saves
        self.macs["encoder"] += run.encoder + run.scoring
        self.macs["encoder_dense"] += dense.encoder
        if self.observe:
            for record, place in zip(self.network.trace(output.encoded), places, strict=True):
                self._add(record, place)

    def _add(self, record: WindowTrace, place: Placement) -> None:
        for target, source in (
            (self.air[None], record.air[None]),
            (self.left_stage[None], record.left_stage[None]),
            (self.importance, record.importance),
            (self.ran, record.ran),
        ):
            for layer, values in zip(target, source.cpu().numpy(), strict=True):
                layer[place.outer][place.owned] = values[place.inner][place.owned]
        if record.kept is not None:
            self.dependencies.append(self._dependencies(record, record.kept, place))

    def _dependencies(self, record: WindowTrace, kept: Tensor, place: Placement) -> Dependencies:
        """Place the tokens of a window in the volume; only owned ones stay as queries."""
        inside = np.full(record.air.shape, -1, dtype=np.int32)
        owned = np.zeros(record.air.shape, dtype=bool)
        numbers = np.arange(self.grid.size, dtype=np.int32).reshape(self.grid.shape)
        inside[place.inner] = numbers[place.outer]
        owned[place.inner] = place.owned
        tokens = record.tokens.cpu().numpy()
        on_grid = inside.reshape(-1)[tokens] >= 0
        heads = kept.cpu().numpy() * owned.reshape(-1)[tokens][:, None]
        return Dependencies(
            inside.reshape(-1)[tokens][on_grid],
            heads[on_grid][:, on_grid].astype(np.uint8),
            self.network.config.heads,
        )

    def add_confidence(self, scores: PatchScores) -> None:
        """Take how sure the network was of each patch once the windows are joined."""
        if self.observe:
            self.confidence = scores.confidence().cpu().numpy()

    def trace(self) -> TokenTrace | None:
        """Return the trace of the whole volume, None if nothing was observed."""
        if not self.observe:
            return None
        return TokenTrace(
            self.grid,
            self.network.sparsifier.method.name,
            self.stages,
            self.air,
            self.importance,
            self.left_stage,
            self.ran,
            tuple(self.dependencies),
            self.confidence,
        )
