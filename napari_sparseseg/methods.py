"""Which sparsifiers there are and what each can show: the one place where they are registered.

Plain data, so that a panel or a command line can offer a method without loading torch. The
rules themselves live in ``network/sparsifiers``, one file each; ``docs/add-a-sparsifier.md``
walks through a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from napari_sparseseg.errors import InputError

Fate = Literal["pruned", "exited", "skipped", "muted"]
"""What happens to a token that a sparsifier does not let go on.

"pruned": it leaves the encoder, its features are kept aside and completed later. "exited": it
leaves and its prediction is final. "skipped": it sits out one block, its features stay in place
and it may run a later one. "muted": its query is pruned, it gathers nothing from other tokens
but stays in place for them to attend to.
"""

MapKind = Literal["importance", "kept", "depth", "reactivations", "dependencies"]
"""What a map is made from: scores at each stage, where tokens left, blocks run, how often a token
came back, which tokens a chosen token attended to."""


@dataclass(frozen=True)
class Control:
    """The one setting of a method: a number up to 1, where 1 prunes nothing.

    Attributes
    ----------
    name : str
        "keep ratio", "exit threshold" ...
    low : float
        Smallest value that a slider offers.
    step : float
        Step of a slider.
    about : str
        What it does, one sentence.
    """

    name: str
    low: float
    step: float
    about: str

    @property
    def option(self) -> str:
        """The command-line option that sets it: all thresholds share one."""
        kind = "threshold" if self.name.endswith("threshold") else self.name
        return "--" + kind.replace(" ", "-")


@dataclass(frozen=True)
class View:
    """A map that a method can show.

    Attributes
    ----------
    kind : str
        What the map is made from.
    title : str
        Its name for people, in the words of the method.
    about : str
        How to read it, one or two sentences.
    ranked : bool
        For scores: show each token's rank among those scored (their size means nothing), or
        the scores themselves, which then lie between 0 and 1.
    """

    kind: MapKind
    title: str
    about: str
    ranked: bool = True


@dataclass(frozen=True)
class Method:
    """A registered sparsifier.

    Attributes
    ----------
    name, title : str
        Identifier, and the name for people.
    about : str
        One sentence on what it does.
    source : str
        The paper that it follows, "" for a control.
    implementation : str
        "module:Class" under ``napari_sparseseg.network.sparsifiers``.
    fate : str
        What happens to a token that does not go on.
    control : Control or None
        Its setting, None if it has none.
    views : tuple of View
        The maps that it can show; the first is shown first.
    is_control : bool
        Whether it is a control, which can take the place of any model's own sparsifier.
    mimics : bool
        For a control: whether it decides where, as often, and by the setting of the sparsifier
        whose place it takes.
    """

    name: str
    title: str
    about: str
    source: str
    implementation: str
    fate: Fate
    control: Control | None
    views: tuple[View, ...]
    is_control: bool = False
    mimics: bool = False


KEEP_RATIO = Control(
    "keep ratio", 0.05, 0.05, "Fraction of the tokens that run through every encoder block"
)
_KEPT = View(
    "kept",
    "kept / pruned",
    "Where each token left the encoder. Darker tokens left earlier; kept ones ran every block.",
)
_DEPTH = View("depth", "depth", "Number of encoder blocks that each token ran through.")
_IMPORTANCE = View(
    "importance",
    "importance",
    "Rank of each token among those scored at this stage: 0 least, 1 most important. Tokens "
    "without a colour were not scored.",
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "dense",
            "Dense",
            "Every token runs through every block: the reference for what sparsity costs.",
            "",
            "dense:KeepAll",
            "pruned",
            None,
            (_DEPTH,),
        ),
        Method(
            "stp",
            "STP + MTA",
            "A learned score prunes tokens at each stage; the decoder gets a completed map.",
            "Zhou et al., IPMI 2023, arXiv:2303.06522",
            "stp:SoftTopKPruning",
            "pruned",
            KEEP_RATIO,
            (_KEPT, _IMPORTANCE, _DEPTH),
        ),
        Method(
            "edge",
            "Edge score",
            "As STP, with a score that learns which patches hold a border between structures.",
            "Guo et al., MICCAI 2025 (HRViT)",
            "edge:EdgePruning",
            "pruned",
            KEEP_RATIO,
            (_KEPT, _IMPORTANCE, _DEPTH),
        ),
        Method(
            "dtop",
            "DToP",
            "A token whose whole patch is confidently one class exits with that class.",
            "Tang et al., ICCV 2023, arXiv:2308.01045",
            "dtop:EarlyExit",
            "exited",
            Control(
                "exit threshold",
                0.5,
                0.01,
                "Confidence above which a token exits with its class; 1 lets none exit",
            ),
            (
                View(
                    "kept",
                    "exit stage",
                    "Where each token exited with its class final. Kept tokens ran every block "
                    "and were decoded; a few sure ones of each class are kept as context.",
                ),
                View(
                    "importance",
                    "confidence",
                    "How sure the head of this stage was that the whole patch is one class: 0 to "
                    "1. Tokens without a colour had exited before.",
                    ranked=False,
                ),
                _DEPTH,
            ),
        ),
        Method(
            "svit",
            "SViT",
            "A gate before each later block lets tokens sit it out; they may come back.",
            "Liu et al., WACV 2024, arXiv:2306.07050",
            "svit:BlockGates",
            "skipped",
            Control(
                "keep ratio",
                0.05,
                0.05,
                "Target for the fraction of tokens that the last gates let run; each scan differs",
            ),
            (
                View(
                    "depth",
                    "blocks run",
                    "Number of encoder blocks that each token ran; a token may skip any of them.",
                ),
                View(
                    "reactivations",
                    "reactivations",
                    "How often a token ran a block again after it had skipped one.",
                ),
                View(
                    "importance",
                    "gate score",
                    "Rank of each token at this gate: 0 least, 1 most likely to run the block.",
                ),
            ),
        ),
        Method(
            "apformer",
            "APFormer",
            "Queries of background tokens are pruned, and each query keeps few dependencies.",
            "Lin et al., TMI 2023, arXiv:2206.14413",
            "apformer:AdaptiveAttention",
            "muted",
            Control(
                "background threshold",
                0.05,
                0.05,
                "Probability of background from which a token's query is pruned; 1 prunes none",
            ),
            (
                View(
                    "kept",
                    "query gate",
                    "Tokens whose query was pruned as background, and those that attended in "
                    "every block.",
                ),
                View(
                    "importance",
                    "foreground",
                    "Probability of foreground by which the gate judged each token: 0 to 1.",
                    ranked=False,
                ),
                View(
                    "dependencies",
                    "dependencies",
                    "For the token that you click on: the tokens that it still attended to in the "
                    "last block, by the share of heads that kept them.",
                ),
                _DEPTH,
            ),
        ),
        Method(
            "random",
            "Random",
            "As many tokens as the model's own rule chose, but drawn at random.",
            "",
            "controls:RandomChoice",
            "pruned",
            KEEP_RATIO,
            (_KEPT, _DEPTH),
            is_control=True,
            mimics=True,
        ),
        Method(
            "truncated",
            "Truncated",
            "The encoder ends at the first stage: are the later blocks needed at all?",
            "",
            "controls:Truncated",
            "pruned",
            None,
            (_DEPTH,),
            is_control=True,
        ),
        Method(
            "none",
            "No encoder",
            "No encoder block runs: are the tokens needed at all?",
            "",
            "controls:NoEncoder",
            "pruned",
            None,
            (_DEPTH,),
            is_control=True,
        ),
    )
}
"""Every method by its name, in the order in which they are offered."""


def controls() -> tuple[str, ...]:
    """Return the names of the controls."""
    return tuple(method.name for method in METHODS.values() if method.is_control)


def rule_of(method: str, sparsifier: str) -> Method:
    """Return the rule in force when a sparsifier decides for a model of a method.

    A control that mimics goes by the rule whose place it takes: its setting, stages and maps.
    """
    return METHODS[method if METHODS[sparsifier].mimics else sparsifier]


def control_of(method: str, sparsifier: str) -> Control | None:
    """Return the setting in force when a sparsifier decides for a model of a method."""
    return rule_of(method, sparsifier).control


def check_sparsifier(name: str, method: str, model: str) -> None:
    """Make sure that a model can run with a sparsifier.

    Parameters
    ----------
    name : str
        The sparsifier.
    method, model : str
        Method and name of the model.

    Raises
    ------
    InputError
        If it is neither the model's own nor a control.
    """
    if name in (method, *controls()):
        return
    reason = f"it was trained with '{method}'" if name in METHODS else "there is no such sparsifier"
    raise InputError(
        f"{model} cannot run with '{name}': {reason}; choose one of "
        f"{', '.join((method, *controls()))}, or another model."
    )


def checked_setting(setting: float, control: Control | None) -> float:
    """Return the setting if it can be used.

    Raises
    ------
    InputError
        If it is not in (0, 1], or there is none to set.
    """
    if control is None and setting != 1:
        raise InputError("This sparsifier has no setting; leave it out.")
    if not 0.0 < setting <= 1.0:
        name = control.name if control else "setting"
        raise InputError(
            f"The {name} {setting:g} is out of range; choose a value above 0 and up to 1."
        )
    return setting
