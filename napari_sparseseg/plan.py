"""Ways to run a scan, from the fastest to the one that takes least memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

CPU = "cpu"


@dataclass(frozen=True)
class Plan:
    """Where and how a scan is run; no part of it changes the answer.

    Attributes
    ----------
    device : str
        Where the network runs.
    stitch : str
        Where the answers of the windows are joined and brought back to the scan's grid.
    packed : bool
        Several windows go through the network in one call; otherwise one by one.
    cached : bool
        What no setting changes is kept for the next setting; otherwise it is computed again.
    """

    device: str
    stitch: str
    packed: bool = True
    cached: bool = True

    def leaner(self) -> tuple[Plan, str] | None:
        """Return the next plan, which takes less memory, and what is given up; None at the end.

        The second is the end of a sentence for users.
        """
        if self.packed:
            return replace(self, packed=False), "the windows were computed one by one"
        if self.cached:
            plan = replace(self, cached=False)
            return plan, "the first blocks are computed again for every setting"
        if self.stitch != CPU:
            return replace(self, stitch=CPU), "the answers of the windows were joined on the CPU"
        if self.device != CPU:
            return Plan(CPU, CPU), "the CPU computed in place of the graphics card"
        return None
