# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pictures for the sidebar: a photograph with its mask laid over it."""

from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews
import numpy as np

from ..backend.errors import UserError
from .images import load_image

SIZE = 256  # pixels of the longer side
MOST = 64  # kept at a time
TINT = np.array([0.55, 0.05, 0.35], np.float32)  # of what the mask hides

_previews: Any = None


def load(photo: Path, mask: Path | None) -> None:
    """Makes the thumbnail unless it is there; a file that cannot be read gives none."""
    key = _key(photo, mask)
    if key in _previews:
        return
    try:
        pixels = overlay(photo, mask)
    except UserError:
        return
    if len(_previews) >= MOST:
        _previews.clear()
    preview = _previews.new(key)
    preview.image_size = (pixels.shape[1], pixels.shape[0])
    preview.image_pixels_float.foreach_set(pixels[::-1].ravel())


def icon(photo: Path, mask: Path | None) -> int:
    """The thumbnail's icon, 0 where it was not loaded."""
    key = _key(photo, mask)
    return int(_previews[key].icon_id) if key in _previews else 0


def overlay(photo: Path, mask: Path | None) -> np.ndarray:
    """[h, w, 4] float32, top row first: the photograph, and what its mask or alpha channel hides dark and tinted."""
    values, is_float = _small(photo)
    color, alpha = values[..., :3], values[..., 3]
    if is_float:
        color = np.where(color <= 0.0031308, 12.92 * color, 1.055 * np.maximum(color, 0.0031308) ** (1 / 2.4) - 0.055)
    if mask is not None and alpha.min() > 0.99:
        hidden, _ = _small(mask, values.shape[1::-1])
        alpha = hidden[..., 3] if hidden[..., 3].min() < 0.99 else hidden[..., :3].mean(axis=-1)
        alpha = (alpha > 0.5).astype(np.float32)
    alpha = np.clip(alpha, 0.0, 1.0)[..., None]
    result = np.ones_like(values)
    result[..., :3] = np.clip(color, 0.0, 1.0) * (0.3 + 0.7 * alpha) + TINT * (1.0 - alpha) * 0.7
    return np.clip(result, 0.0, 1.0)


def _small(path: Path, size: tuple[int, int] | None = None) -> tuple[np.ndarray, bool]:
    """The picture at thumbnail size or a given (width, height), top row first; whether its values are linear."""
    image = load_image(path)
    try:
        width, height = image.size
        factor = min(1.0, SIZE / max(width, height))
        width, height = size or (max(1, round(width * factor)), max(1, round(height * factor)))
        if (width, height) != tuple(image.size):
            image.scale(width, height)
        values = np.empty(width * height * image.channels, np.float32)
        image.pixels.foreach_get(values)
        array = values.reshape(height, width, image.channels)[::-1]
        if image.channels != 4:
            full = np.ones((height, width, 4), np.float32)
            full[..., :3] = array[..., :3] if image.channels == 3 else array[..., :1]
            array = full
        return array, bool(image.is_float)
    finally:
        bpy.data.images.remove(image)


def _key(photo: Path, mask: Path | None) -> str:
    stamps = [str(path.stat().st_mtime_ns) if path.is_file() else "" for path in (photo, mask) if path is not None]
    return "|".join([str(photo), str(mask or ""), *stamps])


def register() -> None:
    global _previews
    _previews = bpy.utils.previews.new()


def unregister() -> None:
    global _previews
    if _previews is not None:
        bpy.utils.previews.remove(_previews)
        _previews = None
