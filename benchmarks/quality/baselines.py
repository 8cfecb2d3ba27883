"""What the networks from outside reach on the test."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.transforms import BoundingRect
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.quality.cases import Case, case_sets
from benchmarks.quality.outcome import Json
from benchmarks.quality.rival_training import data_recipe
from benchmarks.quality.rivals import OVERLAP, RIVALS, Rival, window_of
from benchmarks.quality.runs import length
from napari_sparseseg.analysis.metrics import dice_per_class, hd95_per_class
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.intensity import normalise
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.training.checkpoint import CHECKPOINT, load_checkpoint
from napari_sparseseg.training.recipe import Recipe
from napari_sparseseg.volume import Volume

_AVERAGED = "module."


def measure(task: str, data: Path, runs: Path | None) -> dict[str, Json]:
    """Segment the test scans with every rival that was trained on the task.

    Parameters
    ----------
    task : str
        Name of the task.
    data : Path
        Folder of all data sets.
    runs : Path or None
        Folder of the training runs: the weights of rivals are too large to be shipped.
    """
    runs = runs or Path("runs")
    cases = case_sets(task, data)["test"]
    found = {}
    for name, rival in RIVALS.items():
        run = runs / f"{task}-{name}"
        if not (run / CHECKPOINT).exists():
            print(f"{task}-{name}: there is no such run in {runs}; left out", flush=True)
            continue
        judge = RivalSegmenter(rival, data_recipe(task), run / CHECKPOINT)
        steps, seconds = length(run / "log.csv") or (0, 0.0)
        found[name] = {
            "title": rival.title,
            "parameters": judge.parameters,
            "gmacs_window": round(judge.window_macs / 1e9, 2),
            "window": list(judge.window),
            "steps": steps,
            "minutes": round(seconds / 60, 1),
            "precision": "bfloat16",
            "set": "test",
            "rows": [judge.row(case) for case in cases],
        }
    return found


class RivalSegmenter:
    """A trained rival that segments scans as its users do: crop, slide a window, take the best.

    Parameters
    ----------
    rival : Rival
        Which one.
    recipe : Recipe
        Whose data it learned from: spacing, intensities, classes.
    checkpoint : Path
        Of its run.
    """

    def __init__(self, rival: Rival, recipe: Recipe, checkpoint: Path) -> None:
        self.recipe, self.classes = recipe, recipe.network.classes
        self.window = window_of(recipe.task.name)
        network = rival.build(self.classes, self.window)
        average = load_checkpoint(checkpoint)["average"]
        network.load_state_dict(
            {k.removeprefix(_AVERAGED): v for k, v in average.items() if k.startswith(_AVERAGED)}
        )
        self.parameters = sum(p.numel() for p in network.parameters())
        self.network: nn.Module = network.eval().to(torch.bfloat16)
        self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.windows = 0
        self.window_macs = self._count_macs()

    def _count_macs(self) -> int:
        """Multiply-accumulates of one window, counted by torch from what runs."""
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            self._predict(torch.zeros(1, 1, *self.window))
        return int(counter.get_total_flops()) // 2

    def _predict(self, windows: Tensor) -> Tensor:
        self.windows += len(windows)
        batch = windows.to(torch.bfloat16, memory_format=torch.channels_last_3d)
        scores: Tensor = self.network(batch)
        return scores.float()

    @torch.inference_mode()
    def segment(self, volume: Volume) -> NDArray[np.uint8]:
        """Return the class of each voxel, on the volume's own grid."""
        space = ModelSpace.of(volume.validated(), self.recipe.data.spacing)
        image = normalise(space.to_model(volume.data), self.recipe.data.intensity)
        box = _tissue_box(image)
        logits = sliding_window_inference(
            image[box][None, None], self.window, 1, self._predict, overlap=OVERLAP
        )
        shares = torch.zeros(self.classes, *image.shape)
        shares[0] = 1.0
        shares[:, *box] = logits[0].softmax(dim=0)
        return space.labels_to_volume(PatchScores.whole(shares.to(torch.bfloat16)))

    def row(self, case: Case) -> dict[str, Any]:
        """Segment a case and compare with the truth."""
        self.windows = 0
        start = time.perf_counter()
        labels = self.segment(case.volume)
        seconds = time.perf_counter() - start
        return {
            "case": case.name,
            "dice": dice_per_class(labels, case.truth, self.classes),
            "hd95": hd95_per_class(labels, case.truth, self.classes, case.volume.spacing),
            "gmacs": {"run": round(self.windows * self.window_macs / 1e9, 2)},
            "seconds": round(seconds, 3),
        }


def _tissue_box(image: Tensor) -> tuple[slice, slice, slice]:
    """Return the box of what is brighter than air, as UNETR's recipe crops to the foreground."""
    low_x, high_x, low_y, high_y, low_z, high_z = BoundingRect()((image > 0)[None])[0]
    return slice(low_x, high_x), slice(low_y, high_y), slice(low_z, high_z)
