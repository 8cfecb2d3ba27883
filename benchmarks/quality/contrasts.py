"""Synthetic scans of the held-out heads in contrasts that no model was trained on.

The generator draws each scan anew from the seed of the validation scans with other means of grey
matter, white matter and fluid, so that head, deformation, noise and bias are those of the T1-like
scan of the same name, and contrast alone differs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.quality.cases import as_case, draw_samples, held_out_config, synthetic_heads
from napari_sparseseg.training.synthesis import TissueMeans
from napari_sparseseg.volume import Volume

CONTRASTS: dict[str, TissueMeans] = {
    "T2-like": TissueMeans(grey=0.60, white=0.42, fluid=1.00),
    "FLAIR-like": TissueMeans(grey=0.80, white=0.68, fluid=0.10),
    "PD-like": TissueMeans(grey=0.90, white=0.75, fluid=0.88),
}
"""Means of each contrast. T2: fluid brightest, grey above white. FLAIR: fluid dark, grey slightly
above white. PD: grey above white, fluid about as grey."""


def heads_in(means: TissueMeans, data: Path) -> dict[str, Volume]:
    """Draw the validation scans of the brain models in another contrast.

    Parameters
    ----------
    means : TissueMeans
        The contrast.
    data : Path
        Folder with ``brain-labels``.

    Returns
    -------
    dict
        Scans by the names of the validation cases, whose true classes they share.
    """
    config = replace(held_out_config(), means=means)
    samples = draw_samples(config, tuple(config.held_out(data / "brain-labels")))
    names = synthetic_heads(data).names
    return {
        name: as_case(name, sample, config.spacing).volume
        for name, sample in zip(names, samples, strict=True)
    }
