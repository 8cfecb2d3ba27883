"""The figures of a run as a table that can be read in Slicer and saved as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import vtk

if TYPE_CHECKING:
    from SparseSegLib.answers import RunAnswer

COLUMNS = ("quantity", "value", "unit")
Row = tuple[str, str, str]


def fill_table(table_node: Any, answer: RunAnswer) -> None:
    """Write the figures of a run into a vtkMRMLTableNode."""
    was_modifying = table_node.StartModify()
    table_node.RemoveAllColumns()
    rows = list(result_rows(answer))
    for number, name in enumerate(COLUMNS):
        column = vtk.vtkStringArray()
        column.SetName(name)
        for row in rows:
            column.InsertNextValue(row[number])
        table_node.AddColumn(column)
    table_node.SetLocked(True)
    table_node.EndModify(was_modifying)


def result_rows(answer: RunAnswer) -> Iterator[Row]:
    """Give what ran, its tokens, time and memory, and then each structure."""
    report = answer.report
    yield from _run_rows(report)
    for name, count in report["tokens"].items():
        yield f"tokens, {name}", f"{count}", "tokens"
    for name, work in report["gmacs"].items():
        yield f"work, {name.replace('_', ' ')}", f"{work:g}", "GMAC"
    for part, seconds in report["seconds"].items():
        yield f"time, {part.replace('_', ' ')}", f"{seconds:.2f}", "s"
    if report["peak_memory_mb"] is not None:
        yield "peak memory", f"{report['peak_memory_mb']:.0f}", "MB"
    for structure in answer.structures:
        yield f"volume, {structure.name}", f"{structure.millilitres:.3f}", "ml"
    for structure in answer.structures:
        if structure.dice_to_dense is not None:
            yield f"Dice to dense, {structure.name}", f"{structure.dice_to_dense:.4f}", ""


def _run_rows(report: Mapping[str, Any]) -> Iterator[Row]:
    yield "notice", report["notice"], ""
    yield "model", report["model"], ""
    yield "sparsifier", report["sparsifier"], ""
    setting = report["setting"]
    if setting is not None:
        yield setting["name"], f"{setting['value']:g}", ""
    yield "device", report["device"], ""
    yield "precision", report["precision"], ""
