# SPDX-License-Identifier: GPL-3.0-or-later
"""From UV coordinates to texels: which triangle covers which texel, and filling the gutters between charts.

UV origin is bottom-left; texture row 0 is the top, so the center of texel (i, j) is u = (j + 0.5) / W,
v = 1 − (i + 0.5) / H.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

ROWS_AT_ONCE = 1 << 20  # bounds the memory of the scan conversion


def covered_texels(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scan conversion of triangles [T, 3, 2] (x right, y down, texels): every texel whose center is inside.

    Returns triangle, row, column [N] int64. Half-open spans from crossings that are computed alike for both sides of an
    edge: triangles that share edges exactly partition the texels, so a texel listed twice is an overlap, in either
    orientation of the triangles.
    """
    corners = np.asarray(corners, dtype=np.float64)
    y = corners[:, :, 1]
    first = np.ceil(y.min(1) - 0.5).astype(np.int64) if len(y) else np.zeros(0, np.int64)
    count = (np.ceil(y.max(1) - 0.5).astype(np.int64) - first) if len(y) else np.zeros(0, np.int64)
    parts = []
    total = np.cumsum(count)
    begin = 0
    while begin < len(corners):
        limit = (total[begin - 1] if begin else 0) + ROWS_AT_ONCE
        end = max(begin + 1, int(np.searchsorted(total, limit, side="right")))
        parts.append(_scan(corners, first, count, begin, end))
        begin = end
    if not parts:
        empty = np.zeros(0, np.int64)
        return empty, empty, empty
    triangle, row, column = (np.concatenate(p) for p in zip(*parts, strict=True))
    return triangle, row, column


def _expand(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For counts [N]: owner index and running number within the owner, both [sum of counts]."""
    owner = np.repeat(np.arange(len(count)), count)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)


def _scan(
    corners: np.ndarray, first: np.ndarray, count: np.ndarray, begin: int, end: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    owner, number = _expand(count[begin:end])
    owner += begin
    row = first[owner] + number
    center = row + 0.5
    left = np.full(len(owner), np.inf)
    right = np.full(len(owner), -np.inf)
    for e in range(3):
        a, b = corners[begin:end, e], corners[begin:end, (e + 1) % 3]
        swap = (a[:, 1] > b[:, 1])[:, None]
        low, high = np.where(swap, b, a), np.where(swap, a, b)
        rise = high[:, 1] - low[:, 1]
        slope = (high[:, 0] - low[:, 0]) / np.where(rise > 0, rise, 1.0)
        local = owner - begin
        low_y = low[local, 1]
        active = (low_y <= center) & (center < high[local, 1])
        cross = low[local, 0] + (center - low_y) * slope[local]
        left = np.where(active, np.minimum(left, cross), left)
        right = np.where(active, np.maximum(right, cross), right)
    valid = left < right
    start = np.ceil(np.where(valid, left, 0.0) - 0.5).astype(np.int64)
    width = np.where(valid, np.ceil(np.where(valid, right, 0.0) - 0.5).astype(np.int64) - start, 0)
    span, step = _expand(width)
    return owner[span], row[span], start[span] + step


@dataclass(frozen=True)
class TexelMap:
    """`triangle_ids` [H, W] int32 (−1 where no triangle covers the center), `barycentrics` [H, W, 2] float32 (weights
    of corners 0 and 1), and the number of texels that more than one triangle covers."""

    triangle_ids: np.ndarray
    barycentrics: np.ndarray
    overlaps: int


def rasterize_atlas(uvs: np.ndarray, size: int | tuple[int, int]) -> TexelMap:
    """Which triangle covers each texel center of an atlas. uvs [T, 3, 2]; size in texels, one number or (H, W)."""
    height, width = (size, size) if isinstance(size, int) else size
    corners = np.asarray(uvs, dtype=np.float64) * [width, height]
    corners[..., 1] = height - corners[..., 1]
    triangle, row, column = covered_texels(corners)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    triangle, row, column = triangle[inside], row[inside], column[inside]
    flat = row * width + column
    ids = np.full(height * width, -1, dtype=np.int32)
    ids[flat] = triangle
    weights = np.zeros((height * width, 2), dtype=np.float32)
    a, b, c = corners[triangle, 0], corners[triangle, 1], corners[triangle, 2]
    px, py = column + 0.5 - c[:, 0], row + 0.5 - c[:, 1]
    ax, ay, bx, by = a[:, 0] - c[:, 0], a[:, 1] - c[:, 1], b[:, 0] - c[:, 0], b[:, 1] - c[:, 1]
    area = ax * by - ay * bx
    area = np.where(area == 0, 1.0, area)
    weights[flat, 0] = np.clip((px * by - py * bx) / area, 0.0, 1.0)
    weights[flat, 1] = np.clip((ax * py - ay * px) / area, 0.0, 1.0)
    covered = int(np.count_nonzero(ids >= 0))
    return TexelMap(ids.reshape(height, width), weights.reshape(height, width, 2), len(flat) - covered)


def gutter_source(covered: np.ndarray, steps: float | None = None) -> np.ndarray:
    """For each texel of the mask [H, W] the flat index [H, W] int64 of the nearest covered texel (of itself if covered,
    or farther than `steps` texels). Use it to fill several textures: texture.reshape(H·W, C)[index]."""
    height, width = covered.shape
    own = np.arange(height * width).reshape(height, width)
    if not covered.any():
        return own
    distance, nearest = distance_transform_edt(~covered, return_indices=True)
    source = nearest[0].astype(np.int64) * width + nearest[1]
    return source if steps is None else np.where(distance <= steps, source, own)


def dilate(texture: np.ndarray, covered: np.ndarray, steps: float | None = None) -> np.ndarray:
    """Fills texels outside the mask [H, W] of the texture [H, W, C] with their nearest covered texel, up to `steps`
    texels away (None: everywhere), so that neither filtering nor mip levels mix the background into charts."""
    source = gutter_source(covered, steps)
    return texture.reshape(len(source) * source.shape[1], -1)[source.reshape(-1)].reshape(texture.shape)
