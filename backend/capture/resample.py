# SPDX-License-Identifier: GPL-3.0-or-later
"""Making photographs smaller without aliasing or fringes."""

from __future__ import annotations

import math

import numpy as np


def shrunk(
    rgba: np.ndarray, width: int, height: int, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Shrink an image with an exact box filter: each new pixel is the mean over its own area of the old ones.

    Parameters: ``rgba`` [H, W, 4] uint8, straight alpha; ``valid`` [H, W] bool or None. Colors are weighted with alpha
    and averaged as encoded (the means of a photograph's values, like those the optimiser compares).

    Returns the same two at height × width; a pixel is valid where all that it covers is. Sizes that do not shrink
    return the arguments.
    """
    if (height, width) == rgba.shape[:2]:
        return rgba, valid
    assert height <= rgba.shape[0] and width <= rgba.shape[1]
    premultiplied = rgba.astype(np.float32)
    opaque = bool(rgba[..., 3].min() == 255)
    if opaque:
        premultiplied = premultiplied[..., :3]
    else:
        premultiplied[..., :3] *= premultiplied[..., 3:] * (1.0 / 255.0)
    mean = box_filtered(premultiplied, width, height)
    result = np.full((height, width, 4), 255, np.uint8)
    if not opaque:
        result[..., 3] = mean[..., 3] + 0.5
        mean[..., :3] *= 255.0 / np.maximum(mean[..., 3:], 1e-3)
    result[..., :3] = np.minimum(mean[..., :3] + 0.5, 255.0)
    if valid is not None:
        valid = box_filtered(valid.astype(np.float32)[..., None], width, height)[..., 0] > 0.999
    return result, valid


def box_filtered(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Area means of [H, W, C] float32 at height × width, neither larger than before."""
    return _along_rows(_along_rows(image, height).transpose(1, 0, 2), width).transpose(1, 0, 2)


def _along_rows(image: np.ndarray, size: int) -> np.ndarray:
    """Area means along axis 0: new row i covers [i, i + 1)·old/size of the old rows, the outer two in part."""
    old = image.shape[0]
    if old % size == 0:  # whole pixels: no weights, no copies
        taps = old // size
        result = image[::taps].copy()
        for tap in range(1, taps):
            result += image[tap::taps]
        result *= np.float32(1.0 / taps)
        return result
    step = old / size
    edges = np.arange(size + 1) * step
    first = np.floor(edges[:-1] + 1e-9).astype(np.int64)
    result = np.zeros((size, *image.shape[1:]), np.float32)
    for tap in range(math.ceil(step) + 1):
        row = first + tap
        overlap = np.minimum(row + 1, edges[1:]) - np.maximum(row, edges[:-1])
        weight = np.clip(overlap, 0.0, None).astype(np.float32) / np.float32(step)
        if weight.max() > 1e-6:
            result += weight[:, None, None] * image[np.minimum(row, old - 1)]
    return result
