# SPDX-License-Identifier: GPL-3.0-or-later
"""UV atlas: charts, their parametrization, repair of overlaps, packing.

The guarantees come before the looks: coordinates inside [0, 1], no texel under two triangles, charts `padding` texels
apart. They are checked by exact scan conversion, not assumed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation

from backend.geometry.charts import Surface, describe, segment
from backend.geometry.flattening import Charted, flat_areas
from backend.geometry.overlaps import detach, doubly_covered, lay_out, mirrored, set_apart, weld
from backend.geometry.packing import Outline, pack
from backend.geometry.texels import TexelMap, dilate, gutter_source, rasterize_atlas

__all__ = ["Atlas", "TexelMap", "dilate", "gutter_source", "make_atlas", "rasterize_atlas", "triangle_stretch"]


@dataclass(frozen=True)
class Atlas:
    """`uvs` [T, 3, 2] float32 per corner, origin bottom-left; `chart_ids` [T] int32; `utilization`: share of texels
    inside charts; `stretch`: mean and 95th percentile of the area stretch max(r, 1/r), r = texel density over its mean.
    """

    uvs: np.ndarray
    chart_ids: np.ndarray
    utilization: float
    method: str
    stretch: tuple[float, float]

    @property
    def chart_count(self) -> int:
        return int(self.chart_ids.max()) + 1 if len(self.chart_ids) else 0


def make_atlas(
    vertices: np.ndarray,
    triangles: np.ndarray,
    texture_size: int = 2048,
    padding: float = 4.0,
    time_limit_s: float = 60.0,
    progress: Callable[[float], None] | None = None,
) -> Atlas:
    """UV coordinates for a mesh: vertices [V, 3], triangles [T, 3]; `padding` in texels between charts.

    Past the time limit, or where so many charts do not fit the texture, every triangle gets half a square cell: ugly,
    instant, and free of overlaps.
    """
    deadline = time.monotonic() + time_limit_s
    report = progress or (lambda share: None)
    count = len(triangles)
    if not count:
        return Atlas(np.zeros((0, 3, 2), np.float32), np.zeros(0, np.int32), 0.0, "empty", (1.0, 1.0))
    surface = describe(vertices, triangles)
    charts = segment(surface)
    report(0.3)
    # Finer than the texture: the packed charts are scaled and shifted against the rasters of the repair.
    density = 1.5 * float(np.sqrt(0.6 * texture_size**2 / max(float(surface.areas.sum()), 1e-30)))
    charted = lay_out(surface, charts, density, deadline)
    report(0.6)
    for _ in range(4):
        uvs = _pack(surface, charted, texture_size, padding, deadline)
        if uvs is None or time.monotonic() > deadline:
            break
        # A fold far below a texel may show only now, under the packed charts' raster and in single precision.
        moved = np.union1d(doubly_covered(uvs, texture_size), mirrored(uvs))
        if not len(moved) or _move_to_free_texels(uvs, moved, texture_size, padding):
            charts = detach(surface, charted.charts, moved) if len(moved) else charted.charts
            used = rasterize_atlas(uvs, texture_size)
            assert not used.overlaps
            covered = float((used.triangle_ids >= 0).mean())
            report(1.0)
            return Atlas(uvs, charts.astype(np.int32), covered, "projected charts", area_stretch(surface.areas, uvs))
        charted = weld(surface, *set_apart(surface, charted.charts, charted.points[charted.corners], moved))
    uvs = cell_layout(count, texture_size, padding)
    used = rasterize_atlas(uvs, texture_size)
    report(1.0)
    ids = np.arange(count, dtype=np.int32)
    return Atlas(uvs, ids, float((used.triangle_ids >= 0).mean()), "cells", area_stretch(surface.areas, uvs))


def cell_layout(count: int, size: int, padding: float) -> np.ndarray:
    """UV [count, 3, 2] of triangles as halves of the cells of a square grid, `padding` texels apart or, in
    small cells, a quarter cell."""
    side = int(np.ceil(np.sqrt((count + 1) // 2)))
    cell = size / side
    gap = min(padding, 0.25 * cell)
    pair = np.arange(count) // 2
    corner = np.stack([pair % side, pair // side], axis=1) * cell + 0.5 * gap
    leg = cell - gap * (1.0 + np.sqrt(0.5))  # leaves the two hypotenuses `gap` apart
    lower = np.array([[0.0, 0.0], [leg, 0.0], [0.0, leg]])
    upper = cell - gap - lower
    shape = np.where((np.arange(count) % 2 == 0)[:, None, None], lower, upper)
    return ((corner[:, None, :] + shape) / size).astype(np.float32)


def _move_to_free_texels(uvs: np.ndarray, moved: np.ndarray, size: int, padding: float) -> bool:
    """Gives each of the triangles a free square of its own in the packed atlas, in place; false if there is no room."""
    rest = np.delete(np.arange(len(uvs)), moved)
    ids = rasterize_atlas(uvs[rest], size).triangle_ids
    gap = int(np.ceil(padding))
    taken = binary_dilation(ids >= 0, iterations=gap + 1)
    # As many texels as the triangle's box, but at least 2, so that it covers a texel wherever it stands; by powers of
    # two, since each size takes a search of its own.
    extent = np.ceil((uvs[moved].max(1) - uvs[moved].min(1)).max(1) * size).astype(np.int64)
    wanted = 2 ** np.ceil(np.log2(np.clip(extent, 2, None))).astype(np.int64)
    for side in np.unique(wanted)[::-1].tolist():
        triangles = moved[wanted == side]
        places = _free_squares(taken, side + gap, len(triangles))
        if len(places) < len(triangles):
            return False
        for triangle, (row, column) in zip(triangles, places, strict=True):
            taken[row : row + side + gap, column : column + side + gap] = True
            corner = np.array([column + 0.5 * gap, size - row - 0.5 * gap - side]) / size
            if flat_areas(uvs[triangle][None].astype(np.float64))[0] * size * size > 0.25:
                uvs[triangle] += (corner - uvs[triangle].min(0)).astype(np.float32)
            else:
                uvs[triangle] = corner + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) * (side / size)
    return True


def _free_squares(taken: np.ndarray, cells: int, count: int) -> list[tuple[int, int]]:
    """Rows and columns of up to `count` squares of so many cells, apart from each other and from what is taken."""
    size = len(taken)
    if cells > size:
        return []
    sums = np.zeros((size + 1, size + 1), dtype=np.int32)
    sums[1:, 1:] = taken.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    inside = sums[cells:, cells:] - sums[:-cells, cells:] - sums[cells:, :-cells] + sums[:-cells, :-cells]
    rows, columns = np.nonzero(inside == 0)
    places: list[tuple[int, int]] = []
    while len(rows) and len(places) < count:
        row, column = int(rows[0]), int(columns[0])
        places.append((row, column))
        apart = (rows >= row + cells) | (np.abs(columns - column) >= cells)
        rows, columns = rows[apart], columns[apart]
    return places


def _pack(surface: Surface, charted: Charted, size: int, padding: float, deadline: float) -> np.ndarray | None:
    across = surface.neighbors
    border = (across < 0) | (charted.charts[across] != charted.charts[:, None])
    triangle, corner = np.nonzero(border)
    edges = np.stack([charted.corners[triangle, corner], charted.corners[triangle, (corner + 1) % 3]], axis=1)
    count = int(charted.charts.max()) + 1
    outline = Outline(charted.points, charted.point_charts, edges, charted.charts[triangle], count)
    area = float(np.abs(flat_areas(charted.points[charted.corners])).sum())
    packed = pack(outline, area, size, padding, deadline)
    if packed is None:
        return None
    return (packed.points / size).astype(np.float32)[charted.corners]


def triangle_stretch(vertices: np.ndarray, triangles: np.ndarray, uvs: np.ndarray) -> tuple[float, float]:
    """`Atlas.stretch` of coordinates `uvs` [T, 3, 2] on a mesh [V, 3], [T, 3]."""
    corners = np.asarray(vertices, np.float64)[triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return area_stretch(0.5 * np.linalg.norm(cross, axis=1), uvs)


def area_stretch(areas: np.ndarray, uvs: np.ndarray) -> tuple[float, float]:
    """Mean and 95th percentile over a surface of triangle `areas` [T] of max(r, 1/r) up to 100, r = UV area per area
    over its mean."""
    flat = np.abs(flat_areas(uvs.astype(np.float64)))
    weight = areas / max(float(areas.sum()), 1e-300)
    ratio = np.clip(flat / max(float(flat.sum()), 1e-300) / np.maximum(weight, 1e-12), 0.01, 100.0)
    stretch = np.maximum(ratio, 1.0 / ratio)
    order = np.argsort(stretch)
    high = (
        stretch[order][min(int(np.searchsorted(np.cumsum(weight[order]), 0.95)), len(order) - 1)] if len(order) else 1.0
    )
    return float((stretch * weight).sum()), float(high)
