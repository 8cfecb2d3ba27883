"""Evaluation of the whole-brain models: ``python -m napari_sparseseg.training.evaluate``.

Two tests: the held-out label maps, as synthetic scans with fixed seeds (the validation maps,
on which choices may be made), and a real T1 scan, which is for reporting only.
Each is run at several keep ratios with the model's own sparsifier and with random pruning of
as many tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from monai.metrics import compute_dice
from numpy.typing import NDArray

from napari_sparseseg.devices import resolve_precision
from napari_sparseseg.files import read_volume
from napari_sparseseg.network import SparseUNETR
from napari_sparseseg.network.sparsifiers import RandomPruning
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.training.anatomy import STRUCTURES, class_of_label, load_anatomy
from napari_sparseseg.training.recipe import Recipe, load_recipe
from napari_sparseseg.training.synthesis import Sample, SynthesisConfig, Synthesiser
from napari_sparseseg.weights import find_model, load_network

KEEP_RATIOS = (1.0, 0.7, 0.5, 0.3, 0.1)
RANDOM_SEEDS = (1, 2, 3)
_VALIDATION_SEED = 20_000


def dice_per_class(
    predicted: NDArray[np.integer], truth: NDArray[np.integer], classes: int
) -> list[float]:
    """Return the Dice of each foreground class; NaN where the truth lacks it.

    Parameters
    ----------
    predicted, truth : ndarray of int
        Class maps of one shape.
    classes : int
        Number of classes, background included.
    """
    scores = []
    for index in range(1, classes):  # class by class: a one-hot of a whole scan takes gigabytes
        mine, theirs = (torch.from_numpy(m == index)[None, None] for m in (predicted, truth))
        scores.append(float(compute_dice(mine, theirs)[0, 0]))
    return scores


def validation_samples(recipe: Recipe, files: list[Path], per_head: int) -> list[Sample]:
    """Draw the fixed synthetic scans of the held-out heads: brain-centred, without the skull."""
    config = SynthesisConfig(
        recipe.data.window,
        recipe.data.spacing,
        stripped=1.0,
        off_centre=0.0,
        contrast=recipe.data.contrast,
    )
    anatomy = load_anatomy(files)
    source = Synthesiser(anatomy, config, _VALIDATION_SEED)
    return [source.draw(head) for head in range(len(files)) for _ in range(per_head)]


@torch.inference_mode()
def evaluate_maps(
    network: SparseUNETR, samples: list[Sample], keep_ratio: float
) -> NDArray[np.float64]:
    """Return ``(samples, classes - 1)`` Dice on synthetic scans at one keep ratio."""
    rows = []
    for sample in samples:
        predicted = network(sample.image, keep_ratio)[0].argmax(dim=0).numpy()
        truth = majority(sample.subvoxels, network.config.classes).numpy()
        rows.append(dice_per_class(predicted, truth, network.config.classes))
    return np.array(rows)


def majority(subvoxels: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the most frequent of the ``(8, x, y, z)`` sub-voxel classes (lowest of equals)."""
    votes = torch.stack([(subvoxels == index).sum(dim=0) for index in range(classes)])
    return votes.argmax(dim=0)


def _summary(dice: NDArray[np.float64]) -> dict[str, Any]:
    """Mean over structures and scans, spread over scans, and the mean of each structure."""
    per_scan = np.nanmean(dice, axis=1)
    names = list(STRUCTURES)[1:]
    return {
        "mean": round(float(per_scan.mean()), 4),
        "sd_over_scans": round(float(per_scan.std(ddof=1)), 4) if len(dice) > 1 else None,
        "structures": {
            name: round(float(value), 4)
            for name, value in zip(names, np.nanmean(dice, axis=0), strict=True)
        },
    }


def evaluate_model(
    name: str, recipe: Recipe, data: Path, keep_ratios: tuple[float, ...], per_head: int
) -> dict[str, Any]:
    """Evaluate one registered model on both tests.

    Parameters
    ----------
    name : str
        Registered model.
    recipe : Recipe
        Its recipe: generator and held-out files.
    data : Path
        Folder with ``brain-labels`` and ``brain-t1``.
    keep_ratios : tuple of float
        Ratios to run.
    per_head : int
        Synthetic scans per held-out head.
    """
    info = find_model(name)
    network = load_network(info).to_precision(resolve_precision("auto", "cpu"))
    files = [
        f
        for f in sorted((data / "brain-labels").glob("*.nii.gz"))
        if any(v in f.name for v in recipe.validation)
    ]
    samples = validation_samples(recipe, files, per_head)
    segmenter = Segmenter(info)
    scan = read_volume(data / "brain-t1" / "t1.nii.gz")
    truth = class_of_label(
        np.rint(read_volume(data / "brain-t1" / "labels.nii.gz").data).astype(np.int64)
    )
    result: dict[str, Any] = {
        "model": name,
        "weights_sha256": info.sha256,
        "precision": segmenter.precision,
        "validation": {"files": [f.name for f in files], "scans": len(samples)},
        "arms": [],
    }
    own = network.sparsifier, segmenter.network.sparsifier
    for ratio in keep_ratios:
        arms: list[tuple[str, int]] = [(info.method, 0)]
        if info.method != "dense" and ratio < 1:
            arms += [("random", seed) for seed in RANDOM_SEEDS]
        for method, seed in arms:
            if method == "random":
                stages = len(network.config.stages)
                control = RandomPruning(network.config.dim, stages, seed).eval()
                network.sparsifier = segmenter.network.sparsifier = control
            else:
                network.sparsifier, segmenter.network.sparsifier = own
            with segmenter.open(scan) as session:
                answer = session.run(ratio)
            real = dice_per_class(answer.labels.data, truth, len(info.classes))
            result["arms"].append(
                {
                    "sparsifier": method,
                    "seed": seed,
                    "keep_ratio": ratio,
                    "brain-t1": _summary(np.array([real])),
                    "validation": _summary(evaluate_maps(network, samples, ratio)),
                    "tokens": answer.report["tokens"],
                    "gmacs": answer.report["gmacs"],
                }
            )
            arm = result["arms"][-1]
            print(
                f"{name:16} {method:7} {ratio:4} brain-t1 {arm['brain-t1']['mean']:.4f} "
                f"validation {arm['validation']['mean']:.4f}",
                flush=True,
            )
        if info.method == "dense":
            break
    return result


def main(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes of the registered models.")],
    data: Annotated[Path, typer.Option(help="Folder with brain-labels and brain-t1.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    per_head: Annotated[int, typer.Option(help="Synthetic scans per held-out head.")] = 3,
) -> None:
    """Evaluate registered models and write the figures as JSON."""
    results = []
    for path in recipes:
        recipe = load_recipe(path)
        results.append(evaluate_model(recipe.name, recipe, data, KEEP_RATIOS, per_head))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps({"versions": {"torch": torch.__version__}, "models": results}, indent=1) + "\n"
    )


if __name__ == "__main__":
    typer.run(main)
