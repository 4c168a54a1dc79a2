# SPDX-License-Identifier: GPL-3.0-or-later
"""UV atlas: charts, their parametrization, repair of overlaps, packing.

The guarantees come before the looks: coordinates inside [0, 1], no texel under two triangles, charts `padding` texels
apart. They are checked by exact scan conversion, not assumed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu

from backend.geometry.charts import Surface, chart_axes, describe, segment, split_components
from backend.geometry.packing import Outline, extents, pack
from backend.geometry.texels import TexelMap, covered_texels, dilate, gutter_source, rasterize_atlas

__all__ = ["Atlas", "TexelMap", "dilate", "gutter_source", "make_atlas", "rasterize_atlas"]


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


@dataclass(frozen=True)
class _Charted:
    """Charts with coordinates: `points` [N, 2] world units, `corners` [T, 3] indices into them, `charts` [T]."""

    points: np.ndarray
    corners: np.ndarray
    charts: np.ndarray
    source: np.ndarray  # [N] mesh vertex of each point

    @property
    def point_charts(self) -> np.ndarray:
        result = np.zeros(len(self.points), dtype=np.int64)
        result[self.corners.reshape(-1)] = np.repeat(self.charts, 3)
        return result


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
    charted = repair(surface, charts, density, deadline)
    report(0.6)
    uvs = _pack(surface, charted, texture_size, padding, deadline)
    if uvs is not None and time.monotonic() < deadline:
        # A fold far below a texel may show only now, under the packed charts' raster.
        moved = _doubly_covered(uvs, texture_size)
        if not len(moved) or _move_to_free_texels(uvs, moved, texture_size, padding):
            charts = _detach(surface, charted.charts, moved) if len(moved) else charted.charts
            used = rasterize_atlas(uvs, texture_size)
            assert not used.overlaps
            covered = float((used.triangle_ids >= 0).mean())
            report(1.0)
            return Atlas(uvs, charts.astype(np.int32), covered, "projected charts", area_stretch(surface, uvs))
    uvs = cell_layout(count, texture_size, padding)
    used = rasterize_atlas(uvs, texture_size)
    report(1.0)
    ids = np.arange(count, dtype=np.int32)
    return Atlas(uvs, ids, float((used.triangle_ids >= 0).mean()), "cells", area_stretch(surface, uvs))


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


def project(surface: Surface, charts: np.ndarray) -> _Charted:
    """Each chart projected along its mean normal."""
    axes = chart_axes(surface.normals, surface.areas, charts)
    keys = charts[:, None] * len(surface.vertices) + surface.triangles
    unique, corners = np.unique(keys, return_inverse=True)
    corners = corners.reshape(-1, 3)
    source = unique % len(surface.vertices)
    axis = axes[unique // len(surface.vertices)]
    # A tangent frame that is continuous but at one direction (Duff et al. 2017).
    sign = np.where(axis[:, 2] >= 0, 1.0, -1.0)
    a = -1.0 / (sign + axis[:, 2])
    b = axis[:, 0] * axis[:, 1] * a
    right = np.stack([1.0 + sign * axis[:, 0] ** 2 * a, sign * b, -sign * axis[:, 0]], axis=1)
    up = np.stack([b, sign + axis[:, 1] ** 2 * a, -axis[:, 1]], axis=1)
    position = surface.vertices[source]
    points = np.stack([(position * right).sum(1), (position * up).sum(1)], axis=1)
    return _Charted(points, corners, charts, source)


def unfold(surface: Surface, charted: _Charted) -> _Charted:
    """Charts with triangles that the projection turns over or leaves without width get their inner points anew, each at
    a weighted mean of its neighbors (Tutte 1963, with cotangent weights kept positive), their border left in place."""
    a, b, c = (charted.points[charted.corners[:, k]] for k in range(3))
    area = 0.5 * _cross(b - a, c - a)
    folded = np.bincount(charted.charts[area < 0.1 * surface.areas], minlength=int(charted.charts.max()) + 1) > 0
    inside = folded[charted.charts]
    if not inside.any():
        return charted
    corners = charted.corners[inside]
    across = surface.neighbors[inside]
    border = (across < 0) | (charted.charts[across] != charted.charts[inside][:, None])
    count = len(charted.points)
    fixed = np.ones(count, dtype=bool)
    fixed[corners] = False
    for e in range(3):
        fixed[corners[border[:, e], e]] = True
        fixed[corners[border[:, e], (e + 1) % 3]] = True
    position = surface.vertices[charted.source[corners]]
    rows, columns, weights = [], [], []
    for e in range(3):
        one, two = position[:, e] - position[:, e - 1], position[:, (e + 1) % 3] - position[:, e - 1]
        sine = np.linalg.norm(np.cross(one, two), axis=1)
        cotangent = (one * two).sum(1) / np.maximum(sine, 1e-300)  # at the corner opposite to edge e
        rows += [corners[:, e], corners[:, (e + 1) % 3]]
        columns += [corners[:, (e + 1) % 3], corners[:, e]]
        weights += [np.clip(cotangent, 0.1, 10.0)] * 2
    row, column, weight = np.concatenate(rows), np.concatenate(columns), np.concatenate(weights)
    number = np.cumsum(~fixed) - 1
    free = ~fixed[row]
    row, column, weight = row[free], column[free], weight[free]
    size = int((~fixed).sum())
    if not size:
        return charted
    known = fixed[column]
    right = np.stack(
        [np.bincount(number[row[known]], weight[known] * charted.points[column[known], k], size) for k in (0, 1)],
        axis=1,
    )
    diagonal = np.bincount(number[row], weight, size)
    index = (
        np.concatenate([number[row[~known]], np.arange(size)]),
        np.concatenate([number[column[~known]], np.arange(size)]),
    )
    matrix = csc_matrix((np.concatenate([-weight[~known], diagonal]), index), shape=(size, size))
    points = charted.points.copy()
    points[~fixed] = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(right)
    return replace(charted, points=points)


def _cross(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    return one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]


def overlapping_pairs(
    charted: _Charted, density: float, among: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of triangles of one chart that cover the same texel, when every chart has a raster of its own.

    `among`: numbers of the triangles to look at (None: all)."""
    charts = charted.charts
    among = np.arange(len(charts)) if among is None else among
    count = int(charts.max()) + 1
    corners = charted.corners[among]
    low, high = extents(charted.points[corners.reshape(-1)], np.repeat(charts[among], 3), count)
    empty = ~np.isfinite(low[:, 0])
    low[empty], high[empty] = 0.0, 0.0
    wide, tall = (np.ceil((high - low) * density).astype(np.int64) + 2).T
    base = np.cumsum(wide * tall) - wide * tall
    local = (charted.points[corners] - low[charts[among]][:, None, :]) * density
    triangle, row, column = covered_texels(local)
    chart = charts[among[triangle]]
    return _repeated(base[chart] + row * wide[chart] + column, among[triangle])


def _repeated(keys: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(np.diff(keys[order]) == 0)
    return owners[order[same]], owners[order[same + 1]]


def _doubly_covered(uvs: np.ndarray, size: int) -> np.ndarray:
    """Triangles to take out so that no texel has two."""
    triangle, row, column = covered_texels(uvs.astype(np.float64) * size * [1, -1] + [0, size])
    return np.unique(_repeated(row * size + column, triangle)[1])


def _move_to_free_texels(uvs: np.ndarray, moved: np.ndarray, size: int, padding: float) -> bool:
    """Gives each of the triangles a free square of its own in the packed atlas, in place; false if there is no room."""
    rest = np.delete(np.arange(len(uvs)), moved)
    ids = rasterize_atlas(uvs[rest], size).triangle_ids
    gap = int(np.ceil(padding))
    taken = binary_dilation(ids >= 0, iterations=gap + 1)
    # As many texels as the triangle's box, but at least 2, so that it covers a texel wherever it stands.
    low = uvs[moved].min(1)
    extent = np.ceil((uvs[moved].max(1) - low).max(1) * size).astype(np.int64)
    for triangle, wanted in zip(moved, np.clip(extent, 2, None), strict=True):
        cells = int(wanted) + gap
        sums = np.zeros((size + 1, size + 1), dtype=np.int32)
        sums[1:, 1:] = taken.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
        inside = sums[cells:, cells:] - sums[:-cells, cells:] - sums[cells:, :-cells] + sums[:-cells, :-cells]
        place = np.argmax(inside == 0)
        row, column = divmod(int(place), inside.shape[1])
        if inside[row, column]:
            return False
        taken[row : row + cells, column : column + cells] = True
        corner = np.array([column + 0.5 * gap, size - row - 0.5 * gap - wanted]) / size
        one, two = uvs[triangle, 1] - uvs[triangle, 0], uvs[triangle, 2] - uvs[triangle, 0]
        if abs(one[0] * two[1] - one[1] * two[0]) * size * size > 0.5:
            uvs[triangle] += (corner - uvs[triangle].min(0)).astype(np.float32)
        else:
            uvs[triangle] = corner + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) * (wanted / size)
    return True


def _detach(surface: Surface, charts: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Makes each of the triangles a chart of its own."""
    triangles = np.unique(triangles)
    charts = charts.copy()
    charts[triangles] = charts.max() + 1 + np.arange(len(triangles))
    return split_components(surface, charts)


def repair(surface: Surface, charts: np.ndarray, density: float, deadline: float, rounds: int = 12) -> _Charted:
    """Splits charts until no two triangles of a chart overlap at `density` texels per world unit."""
    among: np.ndarray | None = None
    step, thinned = 0, False
    while True:
        charted = unfold(surface, project(surface, charts))
        one, two = overlapping_pairs(charted, density, among)
        late = time.monotonic() > deadline
        if len(one):
            before = charts
            charts = _bisect(surface, charts, one, two) if step < rounds and not late else _detach(surface, charts, two)
            affected = before[one]
        elif thinned or late:
            return charted
        else:
            # Triangles seen edge-on or still turned over would get no texels: they are better off alone.
            a, b, c = (charted.points[charted.corners[:, k]] for k in range(3))
            lost = (0.5 * _cross(b - a, c - a) < 0.02 * surface.areas) & (surface.areas * density**2 > 1.0)
            affected = charts[lost]
            charts = _detach(surface, charts, np.flatnonzero(lost))
            before, thinned = charted.charts, True
        among = np.flatnonzero(np.isin(before, affected))  # only the parts of these need another look
        step += 1


def _bisect(surface: Surface, charts: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Splits each chart with overlapping triangles in two, grown from one such pair at equal speed."""
    chart = charts[one]
    middle = len(one) - np.unique(chart[::-1], return_index=True)[1] - 1
    seeds = np.stack([one[middle], two[middle]])
    side = np.full(len(charts), -1, dtype=np.int64)
    side[seeds[0]] = 0
    side[seeds[1]] = 1
    front = seeds.reshape(-1)
    while len(front):
        near = surface.neighbors[front]
        grows = (near >= 0) & (charts[near] == charts[front][:, None]) & (side[near] < 0)
        source = np.repeat(front, grows.sum(1))
        reached = near[grows]
        side[reached] = side[source]
        front = np.unique(reached)
    return split_components(surface, charts * 2 + np.maximum(side, 0))


def _pack(surface: Surface, charted: _Charted, size: int, padding: float, deadline: float) -> np.ndarray | None:
    across = surface.neighbors
    border = (across < 0) | (charted.charts[across] != charted.charts[:, None])
    triangle, corner = np.nonzero(border)
    edges = np.stack([charted.corners[triangle, corner], charted.corners[triangle, (corner + 1) % 3]], axis=1)
    count = int(charted.charts.max()) + 1
    outline = Outline(charted.points, charted.point_charts, edges, charted.charts[triangle], count)
    points = charted.points[charted.corners]
    one, two = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    area = float(np.abs(_cross(one, two)).sum() * 0.5)
    packed = pack(outline, area, size, padding, deadline)
    if packed is None:
        return None
    return (packed.points / size).astype(np.float32)[charted.corners]


def area_stretch(surface: Surface, uvs: np.ndarray) -> tuple[float, float]:
    """Mean and 95th percentile over the surface of max(r, 1/r) up to 100, r = UV area per area over its
    mean."""
    one, two = (uvs[:, k].astype(np.float64) - uvs[:, 0] for k in (1, 2))
    flat = 0.5 * np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])
    weight = surface.areas / max(float(surface.areas.sum()), 1e-300)
    ratio = np.clip(flat / max(float(flat.sum()), 1e-300) / np.maximum(weight, 1e-12), 0.01, 100.0)
    stretch = np.maximum(ratio, 1.0 / ratio)
    order = np.argsort(stretch)
    high = (
        stretch[order][min(int(np.searchsorted(np.cumsum(weight[order]), 0.95)), len(order) - 1)] if len(order) else 1.0
    )
    return float((stretch * weight).sum()), float(high)
