"""What a result can be compared with, in the order in which it is offered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_sparseseg.analysis.inspection import DENSE
from napari_sparseseg.catalog import Choice
from napari_sparseseg.errors import SparseSegError
from napari_sparseseg.methods import METHODS, controls
from napari_sparseseg.plugin.runner import Request
from napari_sparseseg.plugin.shown import Shown, twin_of
from napari_sparseseg.weights import ModelInfo, models

if TYPE_CHECKING:
    from napari.layers import Labels

Key = tuple[str, object]
"""What tells a target from others, whatever result is shown."""

DENSE_KEY: Key = ("dense", "")
SETTING_KEY: Key = ("setting", "")
BEFORE_KEY: Key = ("before", "")

_ABOUT_DENSE = (
    "The same network with nothing pruned: where the result differs from it, sparsity changed it."
)
_ABOUT_BEFORE = "The result that was shown before this one; Undo leads back to it."
_ABOUT_REFERENCE = (
    "Labels of your own, for example drawn by an expert; their numbers must be those of the "
    "classes."
)


@dataclass(frozen=True, eq=False)
class Target:
    """What a result can be compared with: a run, made already or not, or a layer.

    Attributes
    ----------
    key : tuple
        See :data:`Key`.
    title : str
        Its name for people.
    about : str
        A sentence on what the comparison tells.
    request : Request or None
        The run; None for a layer.
    layer : Labels or None
        The layer; None for a run.
    """

    key: Key
    title: str
    about: str
    request: Request | None = None
    layer: Labels | None = None

    def at(self, setting: float | None) -> Target:
        """Return the same run at another setting."""
        assert self.request is not None
        request = replace(self.request, setting=setting)
        return replace(self, title=_named(request), request=request)


def targets(shown: Shown, references: Iterable[Labels]) -> list[Target]:
    """List what a shown result can be compared with, the dense twin first.

    Parameters
    ----------
    shown : Shown
        The result, and those before it.
    references : iterable of Labels
        Layers that may hold the truth.
    """
    request = shown.request
    found = [Target(DENSE_KEY, DENSE, _ABOUT_DENSE, twin_of(request))]
    found += _controls(request)
    found += _methods(request)
    if (control := request.choice.control) is not None:
        found.append(Target(SETTING_KEY, f"another {control.name}", control.about, request))
    if shown.earlier:
        before = shown.earlier[-1].request
        found.append(Target(BEFORE_KEY, f"result before: {_named(before)}", _ABOUT_BEFORE, before))
    found += (
        Target(
            ("reference", layer.unique_id),
            f"reference: {layer.name}",
            _ABOUT_REFERENCE,
            layer=layer,
        )
        for layer in references
    )
    return found


def _controls(request: Request) -> Iterator[Target]:
    model = request.choice.model
    for name in controls():
        idle = METHODS[name].mimics and METHODS[model.method].control is None
        if idle or name == request.choice.sparsifier:
            continue
        other = _instead(request, Choice(model, name))
        yield Target(("control", name), _named(other), METHODS[name].about, other)


def _methods(request: Request) -> Iterator[Target]:
    """Offer the models of the same task, each with its own rule."""
    for model in _models_beside(request.choice.model):
        choice = Choice(model)
        if choice != request.choice:
            other, rule = _instead(request, choice), choice.rule
            about = f"{rule.about}\n{rule.source}".strip()
            yield Target(("method", model.method), _named(other), about, other)


def _models_beside(model: ModelInfo) -> list[ModelInfo]:
    try:
        known = models()
    except SparseSegError:
        known = ()  # the dock has said so
    others = [
        info
        for info in known
        if (info.task, info.classes) == (model.task, model.classes) and info.path != model.path
    ]
    order = list(METHODS)
    return sorted([model, *others], key=lambda info: order.index(info.method))


def _instead(request: Request, choice: Choice) -> Request:
    """Ask for another choice: at the same setting where it is the same model's."""
    setting = None
    if choice.control is not None:
        setting = choice.model.default_setting
        if choice.model == request.choice.model and request.setting is not None:
            setting = request.setting
    return replace(request, choice=choice, setting=setting)


def _named(request: Request) -> str:
    """Say in short what a run is, as :func:`words.origin` does of a report."""
    choice = request.choice
    title = f"control {choice.rule.title.lower()}" if choice.sparsifier else choice.rule.title
    if choice.control is None or request.setting is None:
        return title
    return f"{title}, {choice.control.name} {request.setting:g}"
