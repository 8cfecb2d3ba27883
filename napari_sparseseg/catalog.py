"""What there is to choose from: tasks, for each its methods, and the controls beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from napari_sparseseg.methods import METHODS, Control, Method, control_of
from napari_sparseseg.weights import ModelInfo


@dataclass(frozen=True)
class Task:
    """Models that do the same with different methods.

    Attributes
    ----------
    key : str
        What tells it from others.
    title : str
        Its name for people.
    models : tuple of ModelInfo
        One for each method, in the order in which methods are registered.
    """

    key: str
    title: str
    models: tuple[ModelInfo, ...]

    @property
    def about(self) -> str:
        """What it is for, a few lines."""
        info = self.models[0]
        return f"{self.title}\n{info.modality}\nat {info.spacing:g} mm"

    def model(self, method: str) -> ModelInfo:
        """Return the model of a method, or the first if there is none of it."""
        return next((info for info in self.models if info.method == method), self.models[0])


@dataclass(frozen=True)
class Choice:
    """What is to segment: a model, with its own rule or with a control in its place.

    Attributes
    ----------
    model : ModelInfo
        The model.
    sparsifier : str
        "" for the model's own rule, or the name of a control.
    """

    model: ModelInfo
    sparsifier: str = ""

    @property
    def rule(self) -> Method:
        """The method or control that decides."""
        return METHODS[self.sparsifier or self.model.method]

    @property
    def control(self) -> Control | None:
        """The setting in force."""
        return control_of(self.model.method, self.rule.name)


def tasks(models: Iterable[ModelInfo]) -> list[Task]:
    """Group models by their task, in the order in which tasks first occur."""
    order = list(METHODS)
    grouped: dict[str, list[ModelInfo]] = {}
    for info in models:
        grouped.setdefault(info.task, []).append(info)
    titles = Counter(short_title(group[0]) for group in grouped.values())
    found = []
    for key, group in grouped.items():
        title = short_title(group[0])
        title = title if titles[title] == 1 else f"{title} ({key})"
        found.append(Task(key, title, tuple(sorted(group, key=lambda x: order.index(x.method)))))
    return found


def task_of_file(info: ModelInfo) -> Task:
    """Make a task of a model that the user opened from a file."""
    return Task(str(info.path), f"{short_title(info)} ({info.path.name})", (info,))


def short_title(info: ModelInfo) -> str:
    """Return what a model's title says before it comes to the method."""
    return info.title.split(",")[0]
