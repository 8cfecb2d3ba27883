"""Which models there are, and how a list of them is searched; plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

OWN_RULE = ""
"""The choice of no control."""


@dataclass(frozen=True)
class Control:
    """The one setting of a model, a number up to 1 where nothing is left out.

    Attributes
    ----------
    name : str
        "keep ratio", "exit threshold" ...
    low, step : float
        Smallest value and step of a slider.
    about : str
        What it does.
    """

    name: str
    low: float
    step: float
    about: str

    def rounded(self, value: float) -> float:
        """Return the nearest value on the slider; steps are counted from 1, which it reaches."""
        steps = round((1.0 - value) / self.step)
        return min(1.0, max(self.low, round(1.0 - steps * self.step, 6)))


@dataclass(frozen=True)
class Model:
    """One model as the engine describes it.

    Attributes
    ----------
    name, title : str
        Identifier, and a line for people.
    method, method_title, about : str
        Its method, the name of that for people, and what it does.
    modality : str
        Scans that it is for.
    structures : tuple of str
        What it segments.
    spacing : float
        Millimetres at which it works.
    size_mb : float or None
        Size of its file.
    default_setting : float
        Value of its setting to start with.
    control : Control or None
        Its setting.
    seconds : mapping
        Seconds of a run on "cpu" and "gpu", None where nobody has measured it.
    """

    name: str
    title: str
    method: str
    method_title: str
    about: str
    modality: str
    structures: tuple[str, ...]
    spacing: float
    size_mb: float | None
    default_setting: float
    control: Control | None
    seconds: Mapping[str, float | None]

    def matches(self, query: str) -> bool:
        """Tell whether all words of a query occur in what is said of the model."""
        parts = (self.name, self.title, self.method_title, self.modality, *self.structures)
        text = " ".join(parts).lower()
        return all(word in text for word in query.lower().split())


@dataclass(frozen=True)
class Rule:
    """A control that can take the place of a model's own rule.

    Attributes
    ----------
    name, title, about : str
        Identifier, name for people, what it does.
    """

    name: str
    title: str
    about: str

    @property
    def mimics(self) -> bool:
        """Whether it leaves out as much as the model's own rule, and so by the same setting."""
        return self.name == "random"


@dataclass(frozen=True)
class Catalogue:
    """All that there is to choose from.

    Attributes
    ----------
    models : tuple of Model
        In the order in which they are offered.
    controls : tuple of Rule
        The controls.
    default : str
        Name of the model to start with.
    """

    models: tuple[Model, ...] = ()
    controls: tuple[Rule, ...] = ()
    default: str = ""

    def model(self, name: str) -> Model | None:
        """Return a model by its name, the default one if there is none of that name."""
        by_name = {model.name: model for model in self.models}
        return by_name.get(name) or by_name.get(self.default)

    def search(self, query: str) -> list[Model]:
        """Return the models that match a query."""
        return [model for model in self.models if model.matches(query)]

    def setting_of(self, model: Model, sparsifier: str) -> Control | None:
        """Return the setting in force for a model and a control, or its own rule."""
        if sparsifier == OWN_RULE:
            return model.control
        mimics = any(rule.mimics for rule in self.controls if rule.name == sparsifier)
        return model.control if mimics else None


def read_catalogue(result: Mapping[str, Any]) -> Catalogue:
    """Make a catalogue of the answer to ``models``."""
    return Catalogue(
        tuple(_model(entry) for entry in result["models"]),
        tuple(Rule(rule["name"], rule["title"], rule["about"]) for rule in result["controls"]),
        result["default"],
    )


def _model(entry: Mapping[str, Any]) -> Model:
    control = entry["control"]
    known = {name: entry[name] for name in Model.__dataclass_fields__ if name in entry}
    known["structures"] = tuple(entry["structures"])
    known["control"] = None if control is None else Control(**control)
    return Model(**known)
