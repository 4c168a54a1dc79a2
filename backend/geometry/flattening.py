# SPDX-License-Identifier: GPL-3.0-or-later
"""Charts in the plane: projection along their mean normals, then local search where that turns triangles over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import warp as wp

from backend.geometry.charts import Surface, chart_axes
from backend.geometry.half_edges import HalfEdges, Links, following, preceding
from backend.geometry.half_edges import turn as turned
from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)

WANTED = 0.5  # share of a triangle's area that should be left of it in the plane
ROUNDS = 12  # of the search over all points with such triangles


@dataclass(frozen=True)
class Charted:
    """Charts with coordinates: `points` [N, 2] world units, `corners` [T, 3] indices into them, `charts` [T],
    `source` [N] the mesh's vertex of each point."""

    points: np.ndarray
    corners: np.ndarray
    charts: np.ndarray
    source: np.ndarray

    @property
    def point_charts(self) -> np.ndarray:
        result = np.zeros(len(self.points), dtype=np.int64)
        result[self.corners.reshape(-1)] = np.repeat(self.charts, 3)
        return result


def cross(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Signed area of the parallelograms of vectors [..., 2]."""
    return one[..., 0] * two[..., 1] - one[..., 1] * two[..., 0]


def flat_areas(corners: np.ndarray) -> np.ndarray:
    """Signed areas [T] of triangles [T, 3, 2]."""
    return 0.5 * cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])


def project(surface: Surface, charts: np.ndarray, among: np.ndarray | None = None) -> Charted:
    """Each chart projected along its mean normal; only of triangles `among` (numbers), which are whole charts."""
    among = np.arange(len(charts)) if among is None else among
    names, local = np.unique(charts[among], return_inverse=True)
    axes = chart_axes(surface.normals[among], surface.areas[among], local)
    keys = local[:, None] * len(surface.vertices) + surface.triangles[among]
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
    return Charted(points, corners, charts[among], source)


@wp.func
def shares_cost(m: Links, areas: wp.array(dtype=float), v: int, at: wp.vec3, wanted: float) -> float:
    """How far the triangles of a point are from the wanted share of their area, or beyond three times it all, if it
    stood there."""
    cost = wp.float32(0.0)
    h = m.out[v]
    while h >= 0:
        b = m.points[m.corner[following(h)]] - at
        c = m.points[m.corner[preceding(h)]] - at
        share = 0.5 * (b[0] * c[1] - b[1] * c[0]) / areas[h / 3]
        cost += wp.max(wanted - share, 0.0) + 0.1 * wp.max(share - 3.0, 0.0)
        h = turned(m, h)
    return cost


@wp.kernel
def _search(m: Links, areas: wp.array(dtype=float), active: wp.array(dtype=wp.int32), wanted: float, seed: int) -> None:
    for i in range(active.shape[0]):
        v = active[i]
        here = m.points[v]
        least = shares_cost(m, areas, v, here, wanted)
        if least <= 0.0:
            continue
        mean = wp.vec3(0.0, 0.0, 0.0)
        reach = wp.float32(0.0)
        count = wp.float32(0.0)
        h = m.out[v]
        while h >= 0:
            mean += m.points[m.corner[following(h)]] + m.points[m.corner[preceding(h)]]
            reach += wp.sqrt(areas[h / 3])
            count += 1.0
            h = turned(m, h)
        mean = mean / (2.0 * count)
        reach = 1.5 * reach / count
        state = wp.rand_init(seed, v)
        best = here
        for k in range(16):
            place = here + (mean - here) * (0.25 * float(k + 1))
            if k >= 4:
                angle = 6.2831853 * wp.randf(state)
                length = reach * wp.randf(state)
                place = here + length * wp.vec3(wp.cos(angle), wp.sin(angle), 0.0)
            # A longer way has to be worth it.
            cost = shares_cost(m, areas, v, place, wanted) + 0.01 * wp.length(place - here) / reach
            if cost < least - 1.0e-4:
                least = cost
                best = place
        m.points[v] = best


def flatten(surface: Surface, charts: np.ndarray, among: np.ndarray | None = None) -> Charted:
    """Projected charts in which points move, each to the best of some places near it, until no triangle is turned over
    or seen too much edge-on, or nothing more helps."""
    charted = project(surface, charts, among)
    areas = surface.areas if among is None else surface.areas[among]
    scale = 1.0 / max(float(np.abs(charted.points).max(initial=0.0)), 1e-300)
    # Single precision is enough about each chart's own center.
    center = _centers(charted)
    points = np.zeros((len(charted.points), 3), dtype=np.float32)
    points[:, :2] = (charted.points - center) * scale
    mesh = HalfEdges.of(torch.from_numpy(points), torch.from_numpy(charted.corners))
    flat_scale = np.maximum(areas * scale**2, 1e-30).astype(np.float32)
    weights = bridge.as_array(torch.from_numpy(flat_scale), wp.float32)
    for step in range(ROUNDS):
        low = flat_areas(mesh.points.numpy()[:, :2][charted.corners]) < 0.8 * WANTED * flat_scale
        if not low.any():
            break
        active = torch.from_numpy(np.unique(charted.corners[low]).astype(np.int32))
        bridge.launch(_search, 1, [mesh.links, weights, bridge.as_array(active, wp.int32), WANTED, step])
    moved = (mesh.points.numpy() != points).any(1)
    result = charted.points.copy()
    result[moved] = mesh.points.numpy()[moved, :2].astype(np.float64) / scale + center[moved]
    return Charted(result, charted.corners, charted.charts, charted.source)


def _centers(charted: Charted) -> np.ndarray:
    """Mean [N, 2] of the points of each point's chart."""
    charts = np.unique(charted.point_charts, return_inverse=True)[1]
    count = np.maximum(np.bincount(charts), 1)
    return np.stack([(np.bincount(charts, charted.points[:, k]) / count)[charts] for k in (0, 1)], axis=1)
