"""Whose fault an error is: errors by what became of the tokens that they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sparseseg.analysis.patches import TokenIndex
from napari_sparseseg.fates import AIR, KEPT, fate_map, fate_names
from napari_sparseseg.tokens import TokenTrace

_GATHER = 1.25  # times their share of the volume from which errors are said to gather
_FEW, _MOST = 0.25, 0.75  # shares of the errors


@dataclass(frozen=True)
class Share:
    """What lies in the tokens of one fate.

    Attributes
    ----------
    fate : str
        In the words of :func:`fates.fate_names`.
    tokens, voxels, errors : int
        Number of tokens, and of voxels and errors in them.
    new_errors : int or None
        Errors that the dense twin does not make; None if it is not known.
    """

    fate: str
    tokens: int
    voxels: int
    errors: int
    new_errors: int | None

    @property
    def left_out(self) -> bool:
        """Whether the tokens did not run every block, and not because they are air."""
        return self.fate not in (AIR, KEPT)


@dataclass(frozen=True)
class Attribution:
    """Errors by the fate of their tokens.

    Attributes
    ----------
    shares : tuple of Share
        Of each fate that occurs; every voxel lies in one.
    from_twin : bool
        Whether errors are differences from the dense twin, so that leaving tokens out caused them
        all, wherever they lie.
    """

    shares: tuple[Share, ...]
    from_twin: bool = False

    def volume_share(self, share: Share) -> float:
        """Return the part of all voxels; 0 where there are none."""
        return _part(share.voxels, sum(s.voxels for s in self.shares))

    def error_share(self, share: Share) -> float:
        """Return the part of all errors; 0 where there are none."""
        return _part(share.errors, sum(s.errors for s in self.shares))

    def rate(self, share: Share) -> float:
        """Return the errors per voxel; 0 where there are no voxels."""
        return _part(share.errors, share.voxels)

    @property
    def verdict(self) -> str:
        """Say where the errors live, and whether leaving tokens out caused them."""
        tissue = [share for share in self.shares if share.fate != AIR]
        left_out = [share for share in tissue if share.left_out]
        errors = sum(share.errors for share in self.shares)
        if not errors:
            return "No voxel differs."
        if not left_out:
            return f"Every token with tissue ran all blocks, and {_voxels(errors)}."
        where = _where(tissue, left_out, "differences" if self.from_twin else "errors")
        if self.from_twin:
            return f"Every difference from the dense twin comes from leaving tokens out. {where}"
        if any(share.new_errors is None for share in self.shares):
            return where
        return f"{where} {_cause(self.shares, left_out)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, JSON-ready."""
        return {
            "verdict": self.verdict,
            "shares": [
                {
                    **asdict(share),
                    "volume_share": round(self.volume_share(share), 5),
                    "error_share": round(self.error_share(share), 5),
                    "rate": round(self.rate(share), 7),
                }
                for share in self.shares
            ],
        }


def attribute(
    trace: TokenTrace,
    index: TokenIndex,
    errors: NDArray[np.bool_],
    dense_errors: NDArray[np.bool_] | None = None,
    *,
    from_twin: bool = False,
) -> Attribution:
    """Count the errors of a result by the fate of their tokens.

    Parameters
    ----------
    trace : TokenTrace
        Trace of the result.
    index : TokenIndex
        Its tokens on the scan.
    errors : ndarray of bool
        Shape of the scan; where the result differs from what it is compared with.
    dense_errors : ndarray of bool, optional
        The same of the dense twin; tells which errors are new.
    from_twin : bool
        Whether the result is compared with the dense twin itself.
    """
    fates, names = fate_map(trace).ravel(), fate_names(trace)
    voxels = [index.sizes, index.count(errors)]
    if dense_errors is not None:
        voxels.append(index.count(errors & ~dense_errors))
    tokens = np.bincount(fates, minlength=len(names)).tolist()
    held = [_by_fate(fates, counts, len(names)) for counts in voxels]
    shares = (
        Share(name, tokens[fate], held[0][fate], held[1][fate], held[2][fate] if held[2:] else None)
        for fate, name in names.items()
    )
    return Attribution(tuple(share for share in shares if share.tokens), from_twin)


@dataclass(frozen=True)
class StructureTokens:
    """What became of the tokens that hold at least one voxel of a structure.

    Attributes
    ----------
    name : str
        The structure.
    tokens : int
        All of them: the sum of the others.
    left : tuple of int
        Tokens that left at each stage.
    sometimes : int
        Tokens that ran the last block but not all before it.
    kept, air : int
        Tokens that ran every block, and those that never entered block 1.
    """

    name: str
    tokens: int
    left: tuple[int, ...]
    sometimes: int
    kept: int
    air: int

    def part(self, count: int) -> float:
        """Return a number of these tokens as a fraction of all of them."""
        return _part(count, self.tokens)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, JSON-ready, with the fraction that left at each stage."""
        left = [round(self.part(count), 5) for count in self.left]
        return {**asdict(self), "left_fraction": left}


def structure_tokens(
    trace: TokenTrace, index: TokenIndex, labels: NDArray[np.uint8], classes: Sequence[str]
) -> tuple[StructureTokens, ...]:
    """Count the tokens of each structure that the labels hold, by their fate.

    Parameters
    ----------
    trace : TokenTrace
        The trace.
    index : TokenIndex
        Its tokens on the scan.
    labels : ndarray of uint8
        Shape of the scan.
    classes : sequence of str
        Class names; index 0 is background.
    """
    from scipy import ndimage

    fates, stages = fate_map(trace), len(trace.stages)
    found = []
    boxes = ndimage.find_objects(labels, max_label=len(classes) - 1)
    for number, (name, box) in enumerate(zip(classes[1:], boxes, strict=True), start=1):
        if box is None:
            continue
        held = fates[index.count(labels[box] == number, box) > 0]
        air, *left, kept, sometimes = np.bincount(held, minlength=stages + 3).tolist()
        found.append(StructureTokens(name, len(held), tuple(left), sometimes, kept, air))
    return tuple(found)


def _by_fate(fates: NDArray[np.uint8], counts: NDArray[np.int64], number: int) -> list[int]:
    # float64 weights count exactly up to 2^53
    return np.bincount(fates, weights=counts.ravel(), minlength=number).astype(np.int64).tolist()


def _part(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _where(tissue: Sequence[Share], left_out: Sequence[Share], what: str) -> str:
    """Compare the share of errors or differences with that of the volume, both outside air."""
    volume, errors = (
        _part(*(sum(getattr(share, name) for share in group) for group in (left_out, tissue)))
        for name in ("voxels", "errors")
    )
    if errors > _GATHER * volume:
        judgement = f"{what} gather there"
    elif volume > _GATHER * errors:
        judgement = f"{what} are rarer there"
    else:
        judgement = f"{what} are as frequent there as elsewhere"
    return (
        f"Tokens that did not run every block hold {100 * volume:.0f} % of the volume outside air "
        f"and {100 * errors:.0f} % of the {what} in it: {judgement}."
    )


def _cause(shares: Sequence[Share], left_out: Sequence[Share]) -> str:
    """Tell how many errors the dense twin makes too."""
    total, new = (
        sum(share.errors for share in shares),
        sum(share.new_errors or 0 for share in shares),
    )
    there = sum(share.new_errors or 0 for share in left_out)
    if not new:
        return "The dense twin makes all errors too: leaving tokens out caused none."
    part = new / total
    amount = "few" if part <= _FEW else "most" if part >= _MOST else "some"
    return (
        f"The dense twin makes {100 * (1 - part):.0f} % of all errors too: leaving tokens out "
        f"caused {amount} of them ({new:,} new ones, {there:,} of these in tokens that did not run "
        "every block)."
    )


def _voxels(number: int) -> str:
    return "1 voxel differs" if number == 1 else f"{number:,} voxels differ"
