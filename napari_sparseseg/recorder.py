"""From the traces of windows to the trace of a volume."""

from __future__ import annotations

import numpy as np

from napari_sparseseg.network import NetworkConfig, SparseUNETR
from napari_sparseseg.network.encoder import Encoded
from napari_sparseseg.placement import Placement
from napari_sparseseg.tokens import TokenGrid, TokenTrace


class Recorder:
    """Collects the traces and operation counts of the windows of one run.

    Attributes
    ----------
    run, dense : int
        Multiply-accumulates of what ran, and of the dense twin on the same windows.

    Parameters
    ----------
    grid : TokenGrid
        Token grid of the volume.
    config : NetworkConfig
        Architecture of the network.
    """

    def __init__(self, grid: TokenGrid, config: NetworkConfig) -> None:
        stages = len(config.stages)
        self.grid, self.config = grid, config
        self.air = np.ones(grid.shape, dtype=bool)
        self.importance = np.full((stages, *grid.shape), np.nan, dtype=np.float32)
        self.pruned_stage = np.zeros(grid.shape, dtype=np.uint8)
        self.depth = np.zeros(grid.shape, dtype=np.uint8)
        self.run = self.dense = 0

    def add(self, network: SparseUNETR, encoded: Encoded, place: Placement) -> None:
        """Take the record of the tokens that this window owns, and count its operations."""
        record = network.trace(encoded)[0]
        for target, source in (
            (self.air, record.air),
            (self.pruned_stage, record.pruned_stage),
            (self.depth, record.depth),
        ):
            target[place.outer][place.owned] = source.cpu().numpy()[place.inner][place.owned]
        scores = record.importance.cpu().numpy()
        for stage, scores_at_stage in zip(self.importance, scores, strict=True):
            stage[place.outer][place.owned] = scores_at_stage[place.inner][place.owned]
        self.run += network.macs(encoded).total
        self.dense += network.dense_macs(encoded).total

    def trace(self) -> TokenTrace:
        """Return the trace of the whole volume."""
        return TokenTrace(
            self.grid,
            self.config.stages,
            self.config.depth,
            self.air,
            self.importance,
            self.pruned_stage,
            self.depth,
        )
