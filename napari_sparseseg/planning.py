"""The choice of a plan: what a run needs is compared with what it may take."""

from __future__ import annotations

from typing import Any

from napari_sparseseg.canonical import ModelSpace
from napari_sparseseg.estimate import Needs, Sizes, estimate, resampling
from napari_sparseseg.exhaustion import COMPUTER
from napari_sparseseg.memory import MB, MemoryBudget, refusal
from napari_sparseseg.plan import CPU, Plan


class Planning:
    """The plan of a session, and what was given up on the way to it.

    Parameters
    ----------
    budget : MemoryBudget
        What a run may take.
    device : str
        Where the network should run.
    packed : bool
        Whether several windows may share a call.

    Attributes
    ----------
    plan : Plan
        The plan in force.
    steps : list of str
        What was given up for want of memory, one sentence each.
    """

    def __init__(self, budget: MemoryBudget, device: str, packed: bool) -> None:
        self.budget = budget
        self.plan = Plan(device, device, packed)
        self.steps: list[str] = []
        self._allowed: dict[str, int] = {}
        self._needs = Needs(0, 0)

    def begin(self, space: ModelSpace) -> None:
        """See what may be taken now, and refuse a scan that cannot even be resampled.

        Raises
        ------
        OutOfMemory
            If that alone takes more than is allowed.
        """
        self._allowed = {name: self.budget.allowed(name) for name in {CPU, self.plan.device}}
        if (needed := resampling(space)) > self._allowed[CPU]:
            raise refusal(needed, self._allowed[CPU], self.budget)

    def fit(self, sizes: Sizes) -> None:
        """Step down until the run fits into what it may take.

        Raises
        ------
        OutOfMemory
            If no plan does.
        """
        self._needs = estimate(sizes, self.plan)
        while short := self._short():
            needed, allowed = self._needs.on(short), self._allowed[short]
            # no plan takes less of the computer's memory than one that uses a card
            hopeless = short == CPU != self.plan.device
            if hopeless or not self._step_down("Memory is short"):
                raise refusal(needed, allowed, self.budget)
            self._needs = estimate(sizes, self.plan)

    def _short(self) -> str:
        """Return a processor whose memory does not suffice, "" if there is none."""
        for device in (CPU, self.plan.device):
            if self._needs.on(device) > self._allowed[device]:
                return device
        return ""

    def ran_out(self, place: str) -> bool:
        """Take a plan that needs less after memory ran out; tell whether there is one.

        Parameters
        ----------
        place : str
            Whose memory, as :func:`exhausted` names it.
        """
        if place == COMPUTER and self.plan.device != CPU:
            return False  # what takes less of the card takes more of the computer
        return self._step_down(f"The {place} ran out of memory")

    def _step_down(self, reason: str) -> bool:
        """Take the next plan, if there is one; the reason begins the sentence that says why."""
        step = self.plan.leaner()
        if step is None:
            return False
        self.plan, given_up = step
        self.steps.append(f"{reason}; {given_up}.")
        return True

    def facts(self) -> dict[str, Any]:
        """Return what the report says of the memory that was planned with."""
        device = self.plan.device
        return {
            "budget_mb": self._allowed[device] / MB,
            "estimate_mb": self._needs.on(device) / MB,
            "steps": list(self.steps),
        }
