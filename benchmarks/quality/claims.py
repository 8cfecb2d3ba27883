"""What the papers claim on quality and cost, and what is seen here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.markdown import table
from benchmarks.quality import words
from benchmarks.quality.figures import Figures


@dataclass(frozen=True)
class Claim:
    """What a paper says of its method.

    Attributes
    ----------
    method : str
        Our name of the method.
    who : str
        Its reference.
    claim : str
        The figures as published.
    measured : str
        On what, and by whom.
    """

    method: str
    who: str
    claim: str
    measured: str


CLAIMS = (
    Claim(
        "stp",
        "STP + MTA (Zhou et al., IPMI 2023)",
        "quality kept, up to 60.6 % more throughput at inference and 120 % in training",
        "by its authors: 3-D, BTCV and BraTS, UNETR at patch 8 (abstract). Our count from the "
        "released code, with 90 % and 75 % of the tokens pruned: 46 % and 48 % fewer operations in "
        "all. We found no Dice for each ratio",
    ),
    Claim(
        "apformer",
        "APFormer (Lin et al., TMI 2023)",
        "prominent performance with far fewer parameters and operations",
        "by its authors: 2-D, ISIC 2018 and Synapse (abstract); we found no table of figures",
    ),
    Claim(
        "dtop",
        "DToP (Tang et al., ICCV 2023)",
        "20 to 35 % fewer operations and no loss; SegViT: mIoU 49.6 to 49.8 with 21 % fewer "
        "(ADE20K), 63.0 to 62.7 with 29 % (Pascal Context), 47.4 to 47.1 with 25 % (COCO-Stuff)",
        "by its authors: 2-D photographs, whole network counted (abstract, repository)",
    ),
    Claim(
        "svit",
        "SViT (Liu et al., WACV 2024)",
        "box AP 48.5 to 48.2 at 34.6 % more images/s (COCO, ViT-Adapter-S); accuracy 79.8 to 79.4 "
        "at 47 % more (ImageNet, DeiT-S); a skipped token should stay and be able to return",
        "by its authors: 2-D photographs, whole network timed (repository)",
    ),
)
"""The methods that this project builds on."""


def claim_table(every: Sequence[Figures]) -> str:
    """Return each claim with what its method gives here at the recommended default."""
    return table(
        ["method", "claimed", "measured", "seen here, on the test"],
        ([claim.who, claim.claim, claim.measured, _seen(claim.method, every)] for claim in CLAIMS),
    )


def _seen(method: str, every: Sequence[Figures]) -> str:
    said = []
    for figures in every:
        for model in figures.sparse:
            arm = figures.shown(model, "test")
            if model.name != f"{figures.task.name}-{method}" or not arm:
                continue
            test, time = figures.against_twin(arm, "test"), figures.time_ratio(model, arm.ratio)
            change = f"{words.points(test.mean_gain)} points of Dice, " if test else ""
            said.append(
                f"`{model.name}` at {words.setting(model, arm)}: {change}"
                f"{words.percent(figures.saved(arm, 'test'))} of the encoder saved, dense twin's "
                f"time / its own {words.quartiles(time)}"
            )
    return "; ".join(said) or "not measured yet"
