"""The terms that a reader of results meets: one sentence each, and the paper behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_sparseseg.methods import METHODS, Fate, cited

Topic = Literal["result", "dense twin", "other", "confidence", "random"]
"""What a document may show beside the run itself, so that only terms which occur are explained."""


@dataclass(frozen=True)
class Term:
    """A word, what it means, and where that is from.

    Attributes
    ----------
    name : str
        The word.
    text : str
        One sentence.
    source : str
        Paper, "" where there is none to name.
    """

    name: str
    text: str
    source: str = ""

    @property
    def tip(self) -> str:
        """The sentence, with its paper: what a tooltip says."""
        return cited(self.text, self.source)


_FATES: dict[Fate, str] = {
    "pruned": "A token that left the encoder at a stage; its features are kept aside and the "
    "decoder's map is completed with them.",
    "exited": "A token that left the encoder at a stage because its prediction was sure enough to "
    "be final.",
    "skipped": "A token that sat out one encoder block or more; its features stay in place and it "
    "may run a later block.",
    "muted": "A token whose query was pruned as background: it gathers nothing from other tokens, "
    "but they may still attend to it.",
}

DICE = Term(
    "Dice",
    "Twice the voxels that two label maps share, over the sum of their voxels: 1 is the same, 0 is "
    "no overlap.",
    "Dice, Ecology 1945",
)
HD95 = Term(
    "HD95",
    "The distance in mm that 95 % of the points of one surface stay within of the other surface: "
    "0 is the same.",
    "Maier-Hein et al., Nature Methods 2024, arXiv:2206.01653",
)
CONFIDENCE = Term(
    "Confidence",
    "The probability of the most probable class, averaged over the voxels of a token; a network "
    "can be sure and wrong.",
    "Hendrycks and Gimpel, ICLR 2017, arXiv:1610.02136",
)

_TOPICS: dict[Topic, tuple[Term, ...]] = {
    "dense twin": (
        Term(
            "Dense twin",
            "The same network with nothing pruned; it shows what the sparsity changed, but it is "
            "not the truth.",
        ),
    ),
    "other": (
        DICE,
        HD95,
        Term(
            "Added, lost, changed",
            "Voxels of a structure only here, only in what it is compared with, or in both but of "
            "another structure.",
        ),
    ),
    "confidence": (CONFIDENCE,),
    "random": (
        Term(
            "Random",
            "The control: as many tokens, drawn at random; a rule that knows what matters must "
            "beat it.",
        ),
    ),
}


def terms(method: str, topics: set[Topic]) -> tuple[Term, ...]:
    """Explain the terms that a document about a run uses.

    Parameters
    ----------
    method : str
        Registered method of the model.
    topics : set of str
        What the document shows beside the run itself.
    """
    known = METHODS[method]
    source = known.source
    about = [
        Term(
            "Token, patch",
            "A block of 8 x 8 x 8 voxels at the model's spacing, and the vector that stands for "
            "it in the network.",
            "Hatamizadeh et al., WACV 2022, arXiv:2103.10504",
        ),
        Term(
            "Air", "A token that holds only background by intensity; it never enters the encoder."
        ),
        Term("Stage", "A place between encoder blocks where the method decides.", source),
    ]
    if known.control is not None:
        name = known.control.name
        about.append(Term(name[0].upper() + name[1:], f"{known.control.about}.", source))
    about += [
        Term(known.fate.capitalize(), _FATES[known.fate], source),
        Term("Kept", "A token that ran through every encoder block."),
        Term("GMACs", "10⁹ multiply-accumulate operations, counted from what ran."),
    ]
    return (
        *about,
        *(term for topic, found in _TOPICS.items() if topic in topics for term in found),
    )
