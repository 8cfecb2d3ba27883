"""What makes a run fast, each part behind a switch that shows what it is worth."""

from __future__ import annotations

from dataclasses import dataclass

OVERLAP = 0.25
"""Least common part of neighbouring windows, as a fraction of a window."""


@dataclass(frozen=True)
class Means:
    """Switches of a run; all on is the default, all off is a plain dense run.

    Apart from ``skip_air`` and ``skip_windows``, which change what the network is shown, the
    answer does not depend on them.

    Attributes
    ----------
    skip_air : bool
        Tokens that hold only background by intensity never enter block 1 and are not decoded.
    skip_windows : bool
        Windows cover the tissue only; otherwise the whole volume.
    active_blocks : bool
        The decoder runs on the packed blocks of open tokens; otherwise on whole windows.
    pack_windows : bool
        Several windows go through the network in one call, their tokens packed one behind the
        other without padding; otherwise one by one.
    trace : bool
        What happens to every token is recorded; otherwise the result has no trace.
    """

    skip_air: bool = True
    skip_windows: bool = True
    active_blocks: bool = True
    pack_windows: bool = True
    trace: bool = True

    @classmethod
    def none(cls) -> Means:
        """Return all switches off but the trace, which costs nothing worth the name."""
        return cls(skip_air=False, skip_windows=False, active_blocks=False, pack_windows=False)
