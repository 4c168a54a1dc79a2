# SPDX-License-Identifier: GPL-3.0-or-later
"""The PSNR curve as a picture: an icon, for a panel can draw nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy.utils.previews
import numpy as np

SIZE = 192  # pixels
MARGIN = 6
LINE = np.array([0.35, 0.7, 1.0, 1.0], np.float32)  # RGBA, the color multiplied by alpha as Blender's icons are
BELOW = 0.25 * LINE
LEAST_RANGE = 1.0  # dB from bottom to top: noise of a tenth shall not look like a mountain

_icons: Any = None
_drawn: dict[str, tuple[float, ...]] = {}


def curve_icon(job: Path, values: Sequence[float]) -> int:
    """The icon of a job's curve, for UILayout.template_icon; 0 while there are fewer than two values."""
    global _icons
    if len(values) < 2:
        return 0
    if _icons is None:
        _icons = bpy.utils.previews.new()
    name = str(job)
    icon = _icons.get(name) or _icons.new(name)
    if _drawn.get(name) != tuple(values):
        _drawn[name] = tuple(values)
        icon.image_size = (SIZE, SIZE)
        icon.image_pixels_float.foreach_set(draw_curve(values).ravel())
    return int(icon.icon_id)


def draw_curve(values: Sequence[float], size: int = SIZE) -> np.ndarray:
    """A line with its area filled, [size, size, 4] float32, row 0 at the bottom, least value to greatest."""
    drawn = np.asarray(values, np.float64)
    low, high = drawn.min(), max(drawn.max(), drawn.min() + LEAST_RANGE)
    inside = size - 2 * MARGIN
    columns = np.arange(inside)
    at_column = np.interp(columns, np.linspace(0, inside - 1, len(drawn)), drawn)
    height = MARGIN + (at_column - low) / (high - low) * (inside - 1)  # [inside], rows
    # The line covers what lies between one column's height and the next's, so that it has no gaps where it is steep.
    following = np.append(height[1:], height[-1])
    rows = np.arange(size)[:, None]
    on_line = (rows >= np.minimum(height, following) - 1.5) & (rows <= np.maximum(height, following) + 1.5)
    picture = np.zeros((size, size, 4), np.float32)
    picture[:, MARGIN : size - MARGIN] = np.where(
        on_line[..., None], LINE, np.where((rows < height)[..., None] & (rows >= MARGIN)[..., None], BELOW, 0)
    )
    return picture


def unregister() -> None:
    """Gives the icons back: Blender complains about those that are left at its end."""
    global _icons
    if _icons is not None:
        bpy.utils.previews.remove(_icons)
        _icons = None
    _drawn.clear()
