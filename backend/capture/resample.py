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
    opaque = bool(rgba[..., 3].min() == 255)
    # planes, because runs of one channel are three times as fast
    planes = np.ascontiguousarray(rgba[..., : 3 if opaque else 4].transpose(2, 0, 1)).astype(np.float32)
    if not opaque:
        planes[:3] *= planes[3]
    planes = box_filtered(planes, width, height)
    if not opaque:
        planes[:3] /= np.maximum(planes[3], 1e-3)
    planes += 0.5
    np.minimum(planes, 255.0, out=planes)
    result = np.full((height, width, 4), 255, np.uint8)
    result[..., : len(planes)] = planes.transpose(1, 2, 0)
    if valid is not None:
        valid = box_filtered(valid.astype(np.float32)[None], width, height)[0] > 0.999
    return result, valid


def box_filtered(planes: np.ndarray, width: int, height: int) -> np.ndarray:
    """Area means of [C, H, W] float32 at height × width, neither larger than before."""
    return _along(_along(planes, height, 1), width, 2)


def _along(planes: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Area means along one axis: new line i covers [i, i + 1)·old/size of the old ones, the outer two in part."""
    old = planes.shape[axis]
    if old % size == 0:  # whole lines need no weights
        taps = old // size
        lines = [planes[:, tap::taps] if axis == 1 else planes[:, :, tap::taps] for tap in range(taps)]
        result = lines[0].copy()
        for line in lines[1:]:
            result += line
        result *= np.float32(1.0 / taps)
        return result
    step = old / size
    edges = np.arange(size + 1) * step
    first = np.floor(edges[:-1] + 1e-9).astype(np.int64)
    shape = [1, 1, 1]
    shape[axis] = size
    total: np.ndarray | None = None
    for tap in range(math.ceil(step) + 1):
        line = first + tap
        overlap = np.minimum(line + 1, edges[1:]) - np.maximum(line, edges[:-1])
        weight = (np.clip(overlap, 0.0, None) / step).astype(np.float32)
        if weight.max() > 1e-6:
            part = planes.take(np.minimum(line, old - 1), axis)
            part *= weight.reshape(shape)
            total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total
