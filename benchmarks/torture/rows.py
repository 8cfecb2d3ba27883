"""What was tried, and how it ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from napari_sparseseg.errors import SparseSegError

_MESSAGES = 3  # of one row that are kept: the first ones of their kind


@dataclass
class Row:
    """Attempts of one kind.

    Attributes
    ----------
    what : str
        What was tried.
    handled : int
        Attempts that gave what they should.
    refused : int
        Attempts that ended in a sentence for the user, with nothing changed.
    defects : list of str
        What went wrong in the others: a traceback, a wrong place, half a file, changed labels,
        something that was not given back.
    messages : list of str
        Some sentences of the refusals.
    figures : dict
        What was measured beside, by its name with the unit.
    """

    what: str
    handled: int = 0
    refused: int = 0
    defects: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    figures: dict[str, float | int | str] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """Number of attempts."""
        return self.handled + self.refused + len(self.defects)

    def attempt(self, call: Callable[[], Any]) -> None:
        """Call something and count how it ends.

        An error for users counts as a refusal if it is one sentence that says what to do; any
        other exception, a failed assertion among them, is a defect.
        """
        try:
            call()
        except SparseSegError as error:
            self.refuse(str(error))
        except Exception as error:
            self.defects.append(f"{type(error).__name__}: {error}"[:300])
        else:
            self.handled += 1

    def refuse(self, message: str) -> None:
        """Count a refusal; one that a user cannot act on is a defect."""
        if not (message.endswith(".") and ";" in message and "Traceback" not in message):
            self.defects.append(f"no sentence to act on: {message}"[:300])
            return
        self.refused += 1
        self.keep(message)

    def keep(self, message: str) -> None:
        """Keep a sentence as an example, if there is room for it, without the folder at work."""
        message = re.sub(r"[^\s“]*/torture-\w+/", "", message)
        if message not in self.messages and len(self.messages) < _MESSAGES:
            self.messages.append(message)

    def count(self, problems: Iterable[str]) -> None:
        """Count one attempt: handled if it showed no problem, else one defect."""
        if found := "; ".join(problems):
            self.defects.append(found[:300])
        else:
            self.handled += 1

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)
