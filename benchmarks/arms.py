"""The contestants: our sparse model, its dense twin, and MONAI's UNETR.

All take the same scan to the same grid, and labels back from it, with the same functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNETR
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.bench import Bench
from benchmarks.volumes import Case
from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.devices import resolve_precision
from napari_sparseseg.intensity import normalise
from napari_sparseseg.means import Means
from napari_sparseseg.scores import PatchScores
from napari_sparseseg.segmenter import Segmenter
from napari_sparseseg.weights import find_model

ARMS = {
    "sparse": "ours: sparse, default keep ratio",
    "dense_twin": "dense twin",
    "dense_our_means": "dense twin with our other means",
    "monai": "MONAI UNETR as users get it",
    "monai_tuned": "MONAI UNETR, tuned",
}
"""Every arm by its name, in the order in which they run."""

USUAL_OVERLAP = 0.5
"""Overlap of windows with which UNETR is published and run."""

_WINDOWS_AT_ONCE = 4  # as the published recipes of UNETR run it


@dataclass(frozen=True, eq=False)
class Answer:
    """What an arm says of a scan: ``labels`` on its grid, and the report if the arm has one."""

    labels: NDArray[np.uint8]
    report: dict[str, Any] | None


class Arm(Protocol):
    """A loaded network that segments scans.

    Attributes
    ----------
    precision : str
        "float32" or "bfloat16".
    has_weights : bool
        Whether its Dice means anything.
    """

    precision: str
    has_weights: bool

    def warm_up(self) -> None:
        """Run once what is slow the first time."""

    def run(self) -> Answer:
        """Segment the scan, from its voxels to labels on its own grid."""


class OurArm:
    """A model of this project on a scan.

    Parameters
    ----------
    segmenter : Segmenter
        The loaded model.
    case : Case
        The scan.
    """

    has_weights = True

    def __init__(self, segmenter: Segmenter, case: Case) -> None:
        self.segmenter, self.case = segmenter, case
        self.precision = segmenter.precision

    def warm_up(self) -> None:
        """Run it all once."""
        self.run()

    def run(self) -> Answer:
        """Open the volume and run it at the model's default setting."""
        with self.segmenter.open(self.case.volume) as session:
            result = session.run()
        return Answer(result.labels.data, result.report)


class MonaiArm:
    """MONAI's sliding window with MONAI's UNETR on a scan; random weights, so only time counts.

    Random weights answer with noise, and the way of noise back to the scan's grid takes longer
    than that of anatomy. So what goes back, in the same time for whoever made it, are the true
    labels; making the network's own label map is timed as well.

    Parameters
    ----------
    case : Case
        The scan.
    classes : int
        Number of classes.
    spacing : float
        Working spacing in mm.
    device : str
        A resolved device.
    roi : int
        Edge of a window in voxels.
    tuned : bool
        Whether it gets our precision, memory layout and fused attention.
    """

    has_weights = False

    def __init__(
        self, case: Case, classes: int, spacing: float, device: str, roi: int, tuned: bool
    ) -> None:
        self.case, self.spacing, self.device, self.roi = case, spacing, device, roi
        self.dtype = resolve_precision("auto", device) if tuned else torch.float32
        self.precision = str(self.dtype).removeprefix("torch.")
        self.format = torch.channels_last_3d if tuned else torch.contiguous_format
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = UNETR(1, classes, (roi, roi, roi), feature_size=16, hidden_size=768,
                            mlp_dim=3072, num_heads=12).eval()  # fmt: skip
        if tuned:
            _fuse_attention(network)
        self.network = network.to(device, self.dtype)
        self.network.to(memory_format=self.format)  # type: ignore[call-overload]
        self.scores = _true_scores(case, spacing, classes, device)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Run the network on as many windows as it gets at once."""
        self._predict(torch.rand(_WINDOWS_AT_ONCE, 1, *[self.roi] * 3, device=self.device))

    @torch.inference_mode()
    def run(self) -> Answer:
        """Resample, normalise, slide the window, take the best class, go back."""
        volume = self.case.volume.validated()
        space = ModelSpace.of(volume, self.spacing)
        image = normalise(space.to_model(volume.data)).to(self.device)
        logits = sliding_window_inference(
            image[None, None],
            (self.roi,) * 3,
            _WINDOWS_AT_ONCE,
            self._predict,
            overlap=USUAL_OVERLAP,
        )
        logits[0].argmax(dim=0).to(torch.uint8).cpu()
        return Answer(space.labels_to_volume(self.scores), None)

    def _predict(self, windows: Tensor) -> Tensor:
        return self.network(windows.to(self.dtype, memory_format=self.format))


def make_arm(name: str, case: Case, bench: Bench) -> Arm:
    """Load an arm for a scan.

    Parameters
    ----------
    name : str
        One of :data:`ARMS`.
    case : Case
        The scan.
    bench : Bench
        Models and device.
    """
    if name == "sparse":
        return OurArm(Segmenter(bench.sparse, bench.device), case)
    if name == "dense_twin":
        return OurArm(Segmenter(bench.dense, bench.device, means=Means.none()), case)
    if name == "dense_our_means":
        return OurArm(Segmenter(bench.dense, bench.device), case)
    info = find_model(bench.dense)
    return MonaiArm(
        case, len(info.classes), info.spacing, bench.device, bench.roi, name == "monai_tuned"
    )


def _fuse_attention(network: torch.nn.Module) -> None:
    """Switch MONAI's attention blocks to torch's fused attention.

    Its blocks know how; UNETR has no argument that passes the wish on.
    """
    for module in network.modules():
        if hasattr(module, "use_flash_attention"):
            module.use_flash_attention = True  # type: ignore[assignment]


def _true_scores(case: Case, spacing: float, classes: int, device: str) -> PatchScores:
    """Return certainty for the true class of every voxel of the model grid."""
    space = ModelSpace.of(case.volume, spacing)
    shares = torch.stack(
        [space.to_model(case.truth == index).to(torch.bfloat16) for index in range(classes)]
    )
    return PatchScores.whole(shares.to(device))
