"""Colours of the token maps: own colour tables, how values meet them, and legends.

A map is drawn through its window, which spreads the whole colour table over a range of values, and
its threshold, which leaves everything outside of it clear: air, and tokens that were not scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from SparseSegLib.answers import TokenMap

Color = tuple[float, float, float, float]

CLEAR: Color = (0.0, 0.0, 0.0, 0.0)
_TISSUE = 160 / 255  # grey on which a legend shows colours that are not opaque
_LARGEST_LEGEND = 24  # lines that can still be read in a slice view


@dataclass(frozen=True)
class Palette:
    """Colours, and the values that they stand for.

    Attributes
    ----------
    names : tuple of str
        What each colour means; "" where it means nothing by itself.
    colors : tuple of Color
        Red, green, blue and alpha from 0 to 1.
    window : tuple of float
        The values at the outer edges of the first and the last colour.
    visible : tuple of float
        The smallest and the largest value that are drawn.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    window: tuple[float, float]
    visible: tuple[float, float]


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


def palette_of(token_map: TokenMap) -> Palette:
    """Return the colours in which a map is drawn, one a value for categories."""
    if token_map.type == "shades":
        low, high = token_map.range
        colors = tuple(parse_color(color) for color in token_map.colormap)
        rounding = 1e-6 * (high - low)
        return Palette(("",) * len(colors), colors, (low, high), (low - rounding, high + rounding))
    meanings = {entry.value: entry for entry in token_map.legend}
    first, last = min(meanings, default=0), max(meanings, default=0)
    entries = [meanings.get(value) for value in range(first, last + 1)]
    return Palette(
        tuple(entry.text if entry else "" for entry in entries),
        tuple(parse_color(entry.color) if entry else CLEAR for entry in entries),
        (first - 0.5, last + 0.5),
        (first, last),
    )


def legend_palette(token_map: TokenMap) -> Palette:
    """Return the colours of a map's legend: opaque, as they look on grey tissue, and no gaps."""
    palette = palette_of(token_map)
    if token_map.type == "shades":
        names, colors = palette.names, palette.colors
    else:
        names = tuple(_line(entry.text, entry.count) for entry in token_map.legend)
        colors = tuple(parse_color(entry.color) for entry in token_map.legend)
    return Palette(names, tuple(map(_on_tissue, colors)), palette.window, palette.visible)


def fill_colors(color_node: Any, palette: Palette) -> None:
    """Put a palette into a vtkMRMLColorTableNode, which is saved with the scene."""
    was_modifying = color_node.StartModify()
    color_node.SetTypeToUser()
    color_node.SetHideFromEditors(False)
    color_node.SetNumberOfColors(len(palette.colors))
    for index, (name, color) in enumerate(zip(palette.names, palette.colors, strict=True)):
        color_node.SetColor(index, name or f"{index}", *color)
    color_node.EndModify(was_modifying)


def dress(display_node: Any, palette: Palette) -> None:
    """Draw a volume in a palette: crisp tokens, fixed range, the rest clear.

    Parameters
    ----------
    display_node : vtkMRMLScalarVolumeDisplayNode
        How the volume is drawn; it has the colours already.
    palette : Palette
        The values that they stand for.
    """
    was_modifying = display_node.StartModify()
    display_node.SetInterpolate(0)
    display_node.AutoWindowLevelOff()
    display_node.SetWindowLevelMinMax(*palette.window)
    display_node.AutoThresholdOff()
    display_node.SetThreshold(*palette.visible)
    display_node.SetApplyThreshold(1)
    display_node.EndModify(was_modifying)


def describe(legend_node: Any, token_map: TokenMap) -> None:
    """Write the legend of a map.

    Parameters
    ----------
    legend_node : vtkMRMLColorLegendDisplayNode
        The legend; it has the colours of :func:`legend_palette` already.
    token_map : TokenMap
        What it explains.
    """
    lines = len(token_map.legend)
    was_modifying = legend_node.StartModify()
    legend_node.SetTitleText(token_map.title)
    if token_map.type == "shades":
        legend_node.SetUseColorNamesForLabels(False)
        legend_node.SetMaxNumberOfColors(len(token_map.colormap))
        legend_node.SetNumberOfLabels(5)
        legend_node.SetLabelFormat("%.2g")
    else:
        legend_node.SetUseColorNamesForLabels(True)
        legend_node.SetMaxNumberOfColors(max(1, lines))
        legend_node.SetNumberOfLabels(min(max(1, lines), _LARGEST_LEGEND))
        legend_node.SetLabelFormat("%s")
    legend_node.EndModify(was_modifying)


def _line(text: str, count: int | None) -> str:
    return text if count is None else f"{text} ({count:,})"


def _on_tissue(color: Color) -> Color:
    """Return the opaque colour that a colour over grey tissue looks like."""
    red, green, blue, alpha = color
    return (
        red * alpha + _TISSUE * (1 - alpha),
        green * alpha + _TISSUE * (1 - alpha),
        blue * alpha + _TISSUE * (1 - alpha),
        1.0,
    )
