"""Colours of the token maps: own colour tables, which are saved with the scene, and legends.

Categories are label maps, the only volumes that Slicer draws with a clearness of each colour of its
own: kept tokens stay almost clear, those that left early are covered. In a label map 0 is
background, so the maps that count from 0, and have air below it, are stored one higher. Shades are
scalar volumes, where a threshold leaves the tokens clear that have no score; these are stored as -1
(for a range from 0 to 1), since not every file format keeps a NaN: a NIfTI file holds 0 in its
place, the lowest score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from SparseSegLib.answers import TokenMap

Color = tuple[float, float, float, float]
Palette = list[tuple[str, Color] | None]
"""Name and colour of each index from 0; None where there is nothing to see or to explain."""

_COUNTS = ("depth", "reactivations")
_CLEAR: Color = (0.0, 0.0, 0.0, 0.0)
_ROUNDING = 1e-6  # of the range of shades
_TICKS = 5


def parse_color(text: str) -> Color:
    """Return the channels of "#rrggbb" or "#rrggbbaa", from 0 to 1.

    Raises
    ------
    ValueError
        If it is neither.
    """
    channels = bytes.fromhex(text[1:].ljust(8, "f"))
    if text[:1] != "#" or len(channels) != 4:
        raise ValueError(f"{text!r} is not a colour like #rrggbb or #rrggbbaa")
    red, green, blue, alpha = (channel / 255 for channel in channels)
    return red, green, blue, alpha


def has_shades(token_map: TokenMap) -> bool:
    """Tell whether a map is a scalar volume in shades, and not a label map of categories."""
    return token_map.type == "shades"


def stored_values(token_map: TokenMap) -> np.ndarray:
    """Return the values of a map as its volume holds them: see the top of this module."""
    if has_shades(token_map):
        low, high = token_map.range
        return np.nan_to_num(token_map.data, nan=2 * low - high)
    return token_map.data + _offset_of(token_map)


def palette_of(token_map: TokenMap) -> Palette:
    """Return the colours of a map: its table, and its legend, which leaves out what is None."""
    if has_shades(token_map):
        return [(f"{index}", parse_color(text)) for index, text in enumerate(token_map.colormap)]
    offset = _offset_of(token_map)
    entries = {entry.value + offset: entry for entry in token_map.legend}
    # one more than there are: what lies above the last is drawn as the last
    palette: Palette = [None] * (max(entries, default=0) + 2)
    for label, entry in entries.items():
        palette[label] = (_line(entry.text, entry.count), parse_color(entry.color))
    return palette


def fill_colors(color_node: Any, palette: Palette) -> None:
    """Put a palette into a vtkMRMLColorTableNode, which is saved with the scene."""
    was_modifying = color_node.StartModify()
    color_node.SetTypeToUser()
    color_node.SetHideFromEditors(False)
    color_node.SetNumberOfColors(len(palette))
    for index, entry in enumerate(palette):
        name, color = entry or ("", _CLEAR)
        color_node.SetColor(index, name, *color)
        color_node.SetColorDefined(index, entry is not None)
    color_node.EndModify(was_modifying)


def set_range(display_node: Any, low: float, high: float) -> None:
    """Spread the colours of a vtkMRMLScalarVolumeDisplayNode over a range; the rest is clear."""
    rounding = _ROUNDING * (high - low)
    was_modifying = display_node.StartModify()
    display_node.AutoWindowLevelOff()
    display_node.SetWindowLevelMinMax(low, high)
    display_node.AutoThresholdOff()
    display_node.SetThreshold(low - rounding, high + rounding)
    display_node.SetApplyThreshold(1)
    display_node.EndModify(was_modifying)


def describe(legend_node: Any, token_map: TokenMap) -> None:
    """Write the legend of a map.

    Parameters
    ----------
    legend_node : vtkMRMLColorLegendDisplayNode
        The legend; it takes its colours from the display of the map.
    token_map : TokenMap
        What it explains.
    """
    shades, lines = has_shades(token_map), len(token_map.legend)
    was_modifying = legend_node.StartModify()
    legend_node.SetTitleText(token_map.title)
    legend_node.SetUseColorNamesForLabels(not shades)
    legend_node.SetMaxNumberOfColors(len(token_map.colormap) if shades else max(1, lines))
    legend_node.SetNumberOfLabels(_TICKS if shades else max(1, lines))
    legend_node.SetLabelFormat("%.2f" if shades else "%s")
    legend_node.EndModify(was_modifying)


def _offset_of(token_map: TokenMap) -> int:
    return 1 if token_map.kind in _COUNTS else 0


def _line(text: str, count: int | None) -> str:
    return text if count is None else f"{text} ({count:,})"
