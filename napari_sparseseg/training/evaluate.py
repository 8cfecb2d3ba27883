"""Evaluation of the whole-brain models: ``python -m napari_sparseseg.training.evaluate``.

Two tests: the held-out label maps, as synthetic scans with fixed seeds (the validation maps,
on which choices may be made), and a real T1 scan, which is for reporting only.
Each is run at several settings with the model's own sparsifier and with the controls.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from napari_sparseseg.files import read_volume
from napari_sparseseg.methods import METHODS
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.training.anatomy import class_of_label, load_anatomy
from napari_sparseseg.training.evaluation import (
    RATIOS,
    contenders,
    dice_per_class,
    has_keep_ratio,
    run_session,
)
from napari_sparseseg.training.recipe import Recipe, load_recipe
from napari_sparseseg.training.source import Sample
from napari_sparseseg.training.synthesis import SynthesisConfig, Synthesiser
from napari_sparseseg.weights import find_model

_VALIDATION_SEED = 20_000
_LOW_THRESHOLD = 0.5


def validation_samples(config: SynthesisConfig, files: list[Path], per_head: int) -> list[Sample]:
    """Draw the fixed synthetic scans of the held-out heads: brain-centred, without the skull."""
    plain = SynthesisConfig(
        config.window, config.spacing, stripped=1.0, off_centre=0.0, contrast=config.contrast
    )
    source = Synthesiser(load_anatomy(files), plain)
    source.seed(_VALIDATION_SEED)
    return [source.draw(head) for head in range(len(files)) for _ in range(per_head)]


@torch.inference_mode()
def evaluate_maps(
    network: SparseUNETR, samples: list[Sample], setting: float
) -> NDArray[np.float64]:
    """Return ``(samples, classes - 1)`` Dice on synthetic scans at one setting."""
    rows = []
    for sample in samples:
        predicted = network(sample.image, setting)[0].argmax(dim=0).numpy()
        truth = majority(sample.subvoxels, network.config.classes).numpy()
        rows.append(dice_per_class(predicted, truth, network.config.classes))
    return np.array(rows)


def majority(subvoxels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the most frequent of the ``(n, x, y, z)`` sub-voxel classes (lowest of equals)."""
    votes = torch.stack([(subvoxels == index).sum(dim=0) for index in range(classes)])
    return votes.argmax(dim=0)


def _summary(dice: NDArray[np.float64], classes: tuple[str, ...]) -> dict[str, Any]:
    """Mean over structures and scans, spread over scans, and the mean of each structure."""
    per_scan = np.nanmean(dice, axis=1)
    return {
        "mean": round(float(per_scan.mean()), 4),
        "sd_over_scans": round(float(per_scan.std(ddof=1)), 4) if len(dice) > 1 else None,
        "structures": {
            name: round(float(value), 4)
            for name, value in zip(classes[1:], np.nanmean(dice, axis=0), strict=True)
        },
    }


def evaluate_model(recipe: Recipe, data: Path, per_head: int) -> dict[str, Any]:
    """Evaluate one registered model on both tests.

    Parameters
    ----------
    recipe : Recipe
        Its recipe: name, generator, held-out files, settings.
    data : Path
        Folder with ``brain-labels`` and ``brain-t1``.
    per_head : int
        Synthetic scans per held-out head.
    """
    assert isinstance(recipe.data, SynthesisConfig)
    info = find_model(recipe.name)
    control = METHODS[info.method].control
    thresholds = sorted({*recipe.settings, recipe.default, _LOW_THRESHOLD}, reverse=True)
    wanted = RATIOS if has_keep_ratio(info.method) else thresholds
    files = recipe.data.held_out(data / "brain-labels")
    samples = validation_samples(recipe.data, files, per_head)
    scan = read_volume(data / "brain-t1" / "t1.nii.gz")
    truth = class_of_label(
        np.rint(read_volume(data / "brain-t1" / "labels.nii.gz").data).astype(np.int64)
    )
    arms: list[dict[str, Any]] = []
    for contender in contenders(info):
        segmenter = contender.open(info)
        with segmenter.open(scan) as session:
            for setting in contender.settings(info, wanted):
                real = run_session(session, truth, setting)
                maps = evaluate_maps(segmenter.network, samples, setting)
                arm: dict[str, Any] = {
                    "sparsifier": contender.sparsifier,
                    "seed": contender.seed,
                    "setting": setting if segmenter.control else None,
                    "brain-t1": _summary(np.array([real.dice]), info.classes),
                    "validation": _summary(maps, info.classes),
                    "tokens": real.tokens,
                    "gmacs": real.gmacs,
                }
                arms.append(arm)
                print(
                    f"{info.name:16} {contender.sparsifier:9} {setting:4} "
                    f"brain-t1 {arm['brain-t1']['mean']:.4f} "
                    f"validation {arm['validation']['mean']:.4f}",
                    flush=True,
                )
    return {
        "model": info.name,
        "weights_sha256": segmenter.sha256,
        "precision": segmenter.precision,
        "setting": control.name if control else None,
        "validation": {"files": [f.name for f in files], "scans": len(samples)},
        "arms": arms,
    }


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes of the registered models.")],
    data: Annotated[Path, typer.Option(help="Folder with brain-labels and brain-t1.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    per_head: Annotated[int, typer.Option(help="Synthetic scans per held-out head.")] = 3,
) -> None:
    """Evaluate registered models and write the figures as JSON."""
    results = [evaluate_model(load_recipe(path), data, per_head) for path in recipes]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps({"versions": {"torch": torch.__version__}, "models": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    typer.run(main)
