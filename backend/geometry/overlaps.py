# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts that lie over themselves: found by exact scan conversion, split until none is left."""

from __future__ import annotations

import time

import numpy as np

from backend.geometry.charts import Surface, split_components
from backend.geometry.flattening import Charted, flat_areas, flatten
from backend.geometry.packing import extents
from backend.geometry.texels import collisions, in_texels

LOST = 0.02  # share of its area below which a triangle would get too few texels: it is better off alone


def overlapping_pairs(charted: Charted, density: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of triangles of one chart that cover the same texel, when every chart has a raster of its own, of
    `density` texels per world unit."""
    names, charts = np.unique(charted.charts, return_inverse=True)
    low, high = extents(charted.points[charted.corners.reshape(-1)], np.repeat(charts, 3), len(names))
    wide, tall = (np.ceil((high - low) * density).astype(np.int64) + 2).T
    base = np.cumsum(wide * tall) - wide * tall
    local = (charted.points[charted.corners] - low[charts][:, None, :]) * density
    return collisions(local, base[charts], wide[charts], int((wide * tall).sum()))


def doubly_covered(uvs: np.ndarray, size: int) -> np.ndarray:
    """Triangles to take out so that no texel has two."""
    corners = in_texels(uvs, (size, size))
    nothing = np.zeros(len(uvs), dtype=np.int64)
    return np.unique(collisions(corners, nothing, nothing + size, size * size)[1])


def mirrored(uvs: np.ndarray) -> np.ndarray:
    """Numbers of the triangles that are turned over, or flat, in float32 coordinates [T, 3, 2]."""
    return np.flatnonzero(flat_areas(uvs.astype(np.float64)) <= 0.0)


def detach(surface: Surface, charts: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Makes each of the triangles a chart of its own."""
    triangles = np.unique(triangles)
    charts = charts.copy()
    charts[triangles] = charts.max() + 1 + np.arange(len(triangles))
    return split_components(surface, charts)


def bisect(surface: Surface, charts: np.ndarray, one: np.ndarray, two: np.ndarray) -> np.ndarray:
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


def lay_out(surface: Surface, charts: np.ndarray, density: float, deadline: float, rounds: int = 12) -> Charted:
    """Charts in the plane, split until no two triangles of a chart overlap at `density` texels per world unit and none
    is turned over.

    After `rounds`, or past the deadline (of time.monotonic), overlapping triangles become charts of their own.
    """
    corners = np.zeros((len(charts), 3, 2))
    among = np.arange(len(charts))  # triangles of charts that are new
    for step in range(rounds + 1):
        charted = flatten(surface, charts, among)
        corners[among] = charted.points[charted.corners]
        one, two = (among[x] for x in overlapping_pairs(charted, density))
        if not len(one):
            break
        before = charts
        if step < rounds and time.monotonic() < deadline:
            charts = bisect(surface, charts, one, two)
            among = np.flatnonzero(np.isin(before, before[one]))
        else:
            charts, corners = set_apart(surface, charts, corners, two)
            break
    lost = np.flatnonzero(flat_areas(corners) < LOST * surface.areas)
    charts, corners = set_apart(surface, charts, corners, lost)
    return weld(surface, charts, corners)


def set_apart(
    surface: Surface, charts: np.ndarray, corners: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Charts and corners in which the triangles are charts of their own, in true shape; the others stay in place."""
    triangles = np.unique(triangles)
    if not len(triangles):
        return charts, corners
    corners = corners.copy()
    corners[triangles] = true_shapes(surface, triangles)
    return detach(surface, charts, triangles), corners


def true_shapes(surface: Surface, triangles: np.ndarray) -> np.ndarray:
    """The numbered triangles [N, 3, 2] in planes of their own, counter-clockwise, corner 0 at the origin."""
    a, b, c = surface.vertices[surface.triangles[triangles]].transpose(1, 0, 2)
    length = np.maximum(np.linalg.norm(b - a, axis=1), 1e-30)
    along = ((c - a) * (b - a)).sum(1) / length
    zero = np.zeros(len(triangles))
    height = 2.0 * surface.areas[triangles] / length
    return np.stack([np.stack([zero, zero], 1), np.stack([length, zero], 1), np.stack([along, height], 1)], axis=1)


def weld(surface: Surface, charts: np.ndarray, corners: np.ndarray) -> Charted:
    """Corners [T, 3, 2] as points: one for each vertex of each chart."""
    keys = charts[:, None] * len(surface.vertices) + surface.triangles
    unique, first, index = np.unique(keys, return_index=True, return_inverse=True)
    points = corners.reshape(-1, 2)[first]
    return Charted(points, index.reshape(-1, 3), charts, unique % len(surface.vertices))
