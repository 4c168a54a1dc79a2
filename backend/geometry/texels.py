# SPDX-License-Identifier: GPL-3.0-or-later
"""From UV coordinates to texels: which triangle covers which texel, and filling the gutters between charts.

UV origin is bottom-left; texture row 0 is the top, so the center of texel (i, j) is u = (j + 0.5) / W,
v = 1 − (i + 0.5) / H. A triangle covers the texels whose centers are inside it. Its spans are half-open and come from
crossings that are computed alike for both sides of an edge: triangles that share edges exactly partition the texels,
so a texel covered twice is an overlap, in either orientation of the triangles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import warp as wp
from scipy.ndimage import distance_transform_edt

from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)

FAR = wp.constant(wp.float64(1.0e300))
HALF = wp.constant(wp.float64(0.5))


@wp.func
def row_range(corners: wp.array2d(dtype=wp.vec2d), t: int) -> wp.vec2i:
    """First row and end row of the texel centers between a triangle's lowest and highest corner."""
    a = corners[t, 0][1]
    b = corners[t, 1][1]
    c = corners[t, 2][1]
    first = wp.ceil(wp.min(a, wp.min(b, c)) - HALF)
    end = wp.ceil(wp.max(a, wp.max(b, c)) - HALF)
    return wp.vec2i(int(first), int(end))


@wp.func
def column_range(corners: wp.array2d(dtype=wp.vec2d), t: int, row: int) -> wp.vec2i:
    """First column and end column of a triangle's texels in a row."""
    center = wp.float64(row) + HALF
    left = wp.float64(FAR)
    right = wp.float64(-FAR)
    for e in range(3):
        low = corners[t, e]
        high = corners[t, (e + 1) % 3]
        if low[1] > high[1]:
            swap = low
            low = high
            high = swap
        if low[1] <= center and center < high[1]:
            cross = low[0] + (center - low[1]) * ((high[0] - low[0]) / (high[1] - low[1]))
            left = wp.min(left, cross)
            right = wp.max(right, cross)
    result = wp.vec2i(0, 0)
    if left < right:
        result = wp.vec2i(int(wp.ceil(left - HALF)), int(wp.ceil(right - HALF)))
    return result


@wp.func
def doubled_area(a: wp.vec2d, b: wp.vec2d) -> wp.float64:
    """Signed area of the parallelogram of two vectors."""
    return a[0] * b[1] - a[1] * b[0]


@wp.kernel
def _paint(
    corners: wp.array2d(dtype=wp.vec2d),
    ids: wp.array2d(dtype=wp.int32),
    weights: wp.array2d(dtype=wp.vec2),
    overlaps: wp.array(dtype=wp.int32),
) -> None:
    t = wp.tid()
    c = corners[t, 2]
    a = corners[t, 0] - c
    b = corners[t, 1] - c
    area = doubled_area(a, b)
    if area == wp.float64(0.0):
        area = wp.float64(1.0)
    rows = row_range(corners, t)
    for i in range(wp.max(rows[0], 0), wp.min(rows[1], ids.shape[0])):
        columns = column_range(corners, t, i)
        for j in range(wp.max(columns[0], 0), wp.min(columns[1], ids.shape[1])):
            if ids[i, j] >= 0:
                overlaps[0] = overlaps[0] + 1
            ids[i, j] = t
            p = wp.vec2d(wp.float64(j) + HALF, wp.float64(i) + HALF) - c
            one = wp.clamp(doubled_area(p, b) / area, wp.float64(0.0), wp.float64(1.0))
            two = wp.clamp(doubled_area(a, p) / area, wp.float64(0.0), wp.float64(1.0))
            weights[i, j] = wp.vec2(float(one), float(two))


@dataclass(frozen=True)
class TexelMap:
    """`triangle_ids` [H, W] int32 (−1 where no triangle covers the center), `barycentrics` [H, W, 2] float32 (weights
    of corners 0 and 1), and the number of texels that more than one triangle covers."""

    triangle_ids: np.ndarray
    barycentrics: np.ndarray
    overlaps: int

    @cached_property
    def nearest(self) -> np.ndarray:
        """Flat index [H, W] int64 of the covered texel nearest to each: see `gutter_source`."""
        return gutter_source(self.triangle_ids >= 0)


def in_texels(uvs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """UV coordinates [..., 2] as texels [..., 2] float64, x right, y down; size (H, W)."""
    height, width = size
    return np.asarray(uvs, dtype=np.float64) * [width, -height] + [0, height]


def rasterize_atlas(uvs: np.ndarray, size: int | tuple[int, int]) -> TexelMap:
    """Which triangle covers each texel center of an atlas. uvs [T, 3, 2]; size in texels, one number or (H, W)."""
    height, width = (size, size) if isinstance(size, int) else size
    ids = torch.full((height, width), -1, dtype=torch.int32)
    weights = torch.zeros((height, width, 2))
    overlaps = torch.zeros(1, dtype=torch.int32)
    if len(uvs):
        corners = torch.from_numpy(in_texels(uvs, (height, width)))
        # One launch on one core: the count of overlaps is no atomic one.
        bridge.launch(
            _paint,
            len(corners),
            [bridge.as_array(corners, wp.vec2d), bridge.as_array(ids, wp.int32)],
            [bridge.as_array(weights, wp.vec2), bridge.as_array(overlaps, wp.int32)],
        )
    return TexelMap(ids.numpy(), weights.numpy(), int(overlaps))


@wp.kernel
def _find_collisions(
    corners: wp.array2d(dtype=wp.vec2d),
    base: wp.array(dtype=wp.int64),
    wide: wp.array(dtype=wp.int32),
    owner: wp.array(dtype=wp.int32),
    pairs: wp.array(dtype=wp.vec2i),
    found: wp.array(dtype=wp.int32),
) -> None:
    t = wp.tid()
    last = wp.int32(-1)
    rows = row_range(corners, t)
    for i in range(rows[0], rows[1]):
        columns = column_range(corners, t, i)
        for j in range(columns[0], columns[1]):
            cell = base[t] + wp.int64(i) * wp.int64(wide[t]) + wp.int64(j)
            other = owner[cell]
            if other >= 0 and other != last:
                last = other
                if found[0] < pairs.shape[0]:
                    pairs[found[0]] = wp.vec2i(other, t)
                found[0] = found[0] + 1
            owner[cell] = t


def collisions(corners: np.ndarray, base: np.ndarray, wide: np.ndarray, texels: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of triangles [P], [P] that cover the same texel, the earlier ones first.

    corners [T, 3, 2] in texels, within a raster of the triangle's own that begins at texel number `base` [T] of all
    `texels` and has `wide` [T] columns.
    """
    pairs = torch.zeros((len(corners) + 1024, 2), dtype=torch.int32)
    found = torch.zeros(1, dtype=torch.int32)
    owner = torch.full((texels,), -1, dtype=torch.int32)
    arrays = [
        torch.from_numpy(np.ascontiguousarray(x)) for x in (corners, base.astype(np.int64), wide.astype(np.int32))
    ]
    inputs = [bridge.as_array(x, y) for x, y in zip(arrays, (wp.vec2d, wp.int64, wp.int32), strict=True)]
    outputs = [bridge.as_array(owner, wp.int32), bridge.as_array(pairs, wp.vec2i), bridge.as_array(found, wp.int32)]
    if len(corners):
        bridge.launch(_find_collisions, len(corners), inputs, outputs)
    one, two = pairs[: min(int(found), len(pairs))].numpy().T.astype(np.int64)
    return one, two


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
