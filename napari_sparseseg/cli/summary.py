"""What ``sparseseg segment`` says when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sparseseg.session import Segmentation


def summarise(result: Segmentation, output: Path) -> str:
    """Tell in a few lines what a run did.

    Parameters
    ----------
    result : Segmentation
        The run.
    output : Path
        Where its labels are.
    """
    report: dict[str, Any] = result.report
    tokens, gmacs, seconds = report["tokens"], report["gmacs"], report["seconds"]
    parts = ", ".join(
        f"{name.replace('_', ' ')} {value:.1f}"
        for name, value in seconds.items()
        if name != "total"
    )
    share = 100 * gmacs["run"] / gmacs["dense"]
    rule, setting = f"sparsifier {report['sparsifier']}", report["setting"]
    if setting is not None:
        rule += f", {setting['name']} {setting['value']:g}"
    own = "" if report["weights_registered"] else " (your own file, not of the registry)"
    notes = "".join(f"Note     {note}\n" for note in report["notes"])
    return (
        f"Labels   {output}\n"
        f"Model    {report['model']}{own}, {rule}, "
        f"{report['device']}, {report['precision']}\n"
        f"Tokens   {tokens['total']}: {tokens['kept']} kept to the last block, "
        f"{tokens['pruned']} pruned, {tokens['exited']} exited, {tokens['air']} air\n"
        f"Compute  {gmacs['run']:.3g} GMACs, {share:.0f} % of the dense {gmacs['dense']:.3g}\n"
        f"Time     {seconds['total']:.1f} s ({parts})\n"
        f"Memory   {report['peak_memory_mb']:.0f} MB at the most\n"
        f"{notes}{report['notice']}"
    )
