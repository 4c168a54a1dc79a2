# SPDX-License-Identifier: GPL-3.0-or-later
"""UV atlas: charts, their parametrization, repair of overlaps, packing.

The guarantees come before the looks: coordinates inside [0, 1], no texel under two triangles, charts `padding` texels
apart. They are checked by exact scan conversion, not assumed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from backend.geometry.charts import Surface, chart_axes, describe, segment, split_components
from backend.geometry.packing import Outline, extents, pack
from backend.geometry.texels import TexelMap, covered_texels, dilate, gutter_source, rasterize_atlas

__all__ = ["Atlas", "TexelMap", "dilate", "gutter_source", "make_atlas", "rasterize_atlas"]


@dataclass(frozen=True)
class Atlas:
    """`uvs` [T, 3, 2] float32 per corner, origin bottom-left; `chart_ids` [T] int32; `utilization` is the share of texels
    inside charts; `stretch` mean and 95th percentile of the area stretch max(r, 1/r), r = texel density over its mean."""

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
    """UV coordinates for a mesh: vertices [V, 3], triangles [T, 3]; `padding` in texels between charts."""
    start = time.monotonic()
    report = progress or (lambda share: None)
    surface = describe(vertices, triangles)
    charts = segment(surface)
    report(0.3)
    density = float(np.sqrt(0.6 * texture_size**2 / max(float(surface.areas.sum()), 1e-30)))
    charted = repair(surface, charts, density)
    report(0.6)
    uvs = _pack(surface, charted, texture_size, padding)
    report(1.0)
    used = rasterize_atlas(uvs, texture_size)
    utilization = float((used.triangle_ids >= 0).mean())
    return Atlas(uvs, charted.charts.astype(np.int32), utilization, "projected charts", area_stretch(surface, uvs))


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


def overlapping_pairs(charted: _Charted, density: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of triangles of one chart that cover the same texel, when every chart has a raster of its own."""
    point_charts = charted.point_charts
    count = int(charted.charts.max()) + 1
    low, high = extents(charted.points, point_charts, count)
    wide, tall = (np.ceil((high - low) * density).astype(np.int64) + 2).T
    base = np.cumsum(wide * tall) - wide * tall
    local = (charted.points - low[point_charts]) * density
    triangle, row, column = covered_texels(local[charted.corners])
    chart = charted.charts[triangle]
    key = base[chart] + row * wide[chart] + column
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(np.diff(key[order]) == 0)
    return triangle[order[same]], triangle[order[same + 1]]


def repair(surface: Surface, charts: np.ndarray, density: float, rounds: int = 12) -> _Charted:
    """Splits charts until no two triangles of a chart overlap at `density` texels per world unit."""
    for _ in range(rounds):
        charted = project(surface, charts)
        one, two = overlapping_pairs(charted, density)
        if not len(one):
            return charted
        charts = _bisect(surface, charts, one, two)
    for _ in range(rounds):
        charted = project(surface, charts)
        one, two = overlapping_pairs(charted, density)
        if not len(one):
            return charted
        charts = charts.copy()
        charts[two] = charts.max() + 1 + np.arange(len(two))
        charts = np.unique(charts, return_inverse=True)[1]
    return charted


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


def _pack(surface: Surface, charted: _Charted, size: int, padding: float) -> np.ndarray:
    across = surface.neighbors
    border = (across < 0) | (charted.charts[across] != charted.charts[:, None])
    triangle, corner = np.nonzero(border)
    edges = np.stack([charted.corners[triangle, corner], charted.corners[triangle, (corner + 1) % 3]], axis=1)
    count = int(charted.charts.max()) + 1
    outline = Outline(charted.points, charted.point_charts, edges, charted.charts[triangle], count)
    points = charted.points[charted.corners]
    one, two = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    area = float(np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]).sum() * 0.5)
    packed = pack(outline, area, size, padding)
    return (packed.points / size).astype(np.float32)[charted.corners]


def area_stretch(surface: Surface, uvs: np.ndarray) -> tuple[float, float]:
    """Mean and 95th percentile over the surface of max(r, 1/r), r = UV area per area over its mean."""
    one, two = (uvs[:, k].astype(np.float64) - uvs[:, 0] for k in (1, 2))
    flat = 0.5 * np.abs(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0])
    weight = surface.areas / max(float(surface.areas.sum()), 1e-300)
    ratio = np.maximum(flat / max(float(flat.sum()), 1e-300), 1e-12) / np.maximum(weight, 1e-12)
    stretch = np.maximum(ratio, 1.0 / ratio)
    order = np.argsort(stretch)
    high = stretch[order][min(int(np.searchsorted(np.cumsum(weight[order]), 0.95)), len(order) - 1)] if len(order) else 1.0
    return float((stretch * weight).sum()), float(high)
