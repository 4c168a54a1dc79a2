# SPDX-License-Identifier: GPL-3.0-or-later
"""Segmentation of a mesh into few charts, each seen from one direction without foreshortening beyond a cone.

Labels from fixed directions, smoothed by iterated conditional modes (data term: deviation of the normal; pair term:
length of chart borders), then proxies refitted to the charts (variational shape approximation, Cohen-Steiner et al.
2004), then neighboring charts joined while all their normals stay in one cone.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
import torch
import warp as wp
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from backend.geometry.mesh import triangle_neighbors
from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)


@dataclass(frozen=True)
class Surface:
    """What segmentation and parametrization need of a mesh, numpy float64."""

    vertices: np.ndarray  # [V, 3]
    triangles: np.ndarray  # [T, 3] int64
    neighbors: np.ndarray  # [T, 3] int64, −1 at borders
    normals: np.ndarray  # [T, 3] unit
    areas: np.ndarray  # [T]
    edge_lengths: np.ndarray  # [T, 3]


def describe(vertices: np.ndarray, triangles: np.ndarray) -> Surface:
    """Normals, areas and neighbors of a mesh. Triangles without area get the normal (0, 0, 1)."""
    vertices = np.asarray(vertices, dtype=np.float64)
    triangles = np.asarray(triangles, dtype=np.int64)
    neighbors = triangle_neighbors(torch.from_numpy(triangles)).numpy().astype(np.int64)
    corners = vertices[triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    double = np.linalg.norm(cross, axis=1)
    normals = np.where(double[:, None] > 0, cross / np.maximum(double, 1e-300)[:, None], [0.0, 0.0, 1.0])
    lengths = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
    return Surface(vertices, triangles, neighbors, normals, 0.5 * double, lengths)


def directions(count: int) -> np.ndarray:
    """`count` nearly even unit vectors [count, 3]: 6 axes, 14 with the corners, 26 with the edges of a cube, or
    a Fibonacci sphere for any other number."""
    if count in (6, 14, 26):
        grid = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
        steps = np.abs(grid).sum(1)
        wanted = {6: [1], 14: [1, 3], 26: [1, 2, 3]}[count]
        grid = grid[np.isin(steps, wanted)]
        return grid / np.linalg.norm(grid, axis=1, keepdims=True)
    z = 1.0 - (2.0 * np.arange(count) + 1.0) / count
    angle = np.arange(count) * np.pi * (3.0 - np.sqrt(5.0))
    radius = np.sqrt(1.0 - z * z)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)


def smooth_normals(surface: Surface, steps: int) -> np.ndarray:
    """Face normals [T, 3] averaged over neighbors by area: noise of single faces shall not make charts. A neighbor
    counts less the more it is turned, so that creases stay (Tomasi & Manduchi 1998)."""
    normals = surface.normals
    inside = surface.neighbors >= 0
    for _ in range(steps):
        weighted = normals * surface.areas[:, None]
        sums = weighted
        for e in range(3):
            near = surface.neighbors[:, e]
            alike = np.where(inside[:, e], (normals * normals[near]).sum(1).clip(0.0) ** 4, 0.0)
            sums = sums + weighted[near] * alike[:, None]
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        normals = np.where(length > 0, sums / np.maximum(length, 1e-300), normals)
    return normals


@wp.func
def label_cost(
    t: int,
    label: int,
    neighbors: wp.array2d(dtype=wp.int32),
    normals: wp.array(dtype=wp.vec3),
    areas: wp.array(dtype=float),
    weights: wp.array2d(dtype=float),
    labels: wp.array(dtype=wp.int32),
    axes: wp.array(dtype=wp.vec3),
) -> float:
    """What it costs to give a face a label: turned normal by area, and the borders that it would have."""
    cost = areas[t] * (1.0 - wp.dot(axes[label], normals[t]))
    for e in range(3):
        n = neighbors[t, e]
        if n >= 0 and labels[n] != label:
            cost += weights[t, e]
    return cost


@wp.kernel
def _relabel(
    neighbors: wp.array2d(dtype=wp.int32),
    normals: wp.array(dtype=wp.vec3),
    areas: wp.array(dtype=float),
    weights: wp.array2d(dtype=float),
    axes: wp.array(dtype=wp.vec3),
    labels: wp.array(dtype=wp.int32),
    changed: wp.array(dtype=wp.int32),
) -> None:
    t = wp.tid()
    own = labels[t]
    best = own
    least = wp.float32(-1.0)
    for e in range(3):
        n = neighbors[t, e]
        if n >= 0:
            other = labels[n]
            if other != own:
                if least < 0.0:
                    least = label_cost(t, own, neighbors, normals, areas, weights, labels, axes)
                cost = label_cost(t, other, neighbors, normals, areas, weights, labels, axes)
                if cost < least:
                    least = cost
                    best = other
    if best != own:
        labels[t] = best
        changed[0] = changed[0] + 1


def smooth_labels(
    surface: Surface, normals: np.ndarray, labels: np.ndarray, axes: np.ndarray, border_cost: float, steps: int
) -> np.ndarray:
    """Iterated conditional modes: face after face takes, of its own and its neighbors' labels, the one of least cost.

    `axes` [L, 3]; `border_cost` is a length in world units, see the module's text.
    """
    # Single precision does for lengths of about one.
    unit = 1.0 / np.sqrt(max(float(surface.areas.mean()), 1e-300))
    inputs = [
        (surface.neighbors, wp.int32),
        (normals.astype(np.float32), wp.vec3),
        (surface.areas * unit**2, wp.float32),
        (surface.edge_lengths * (border_cost * unit**2), wp.float32),
        (axes.astype(np.float32), wp.vec3),
    ]
    number = {wp.int32: np.int32, wp.float32: np.float32, wp.vec3: np.float32}
    arrays = [bridge.as_array(torch.from_numpy(np.ascontiguousarray(x, number[kind])), kind) for x, kind in inputs]
    result, changed = torch.from_numpy(labels.astype(np.int32)), torch.zeros(1, dtype=torch.int32)
    outputs = [bridge.as_array(result, wp.int32), bridge.as_array(changed, wp.int32)]
    for _ in range(steps):
        changed.zero_()
        bridge.launch(_relabel, len(labels), arrays, outputs)  # on one core, so that each face sees those before it
        if not int(changed):
            break
    return result.numpy().astype(np.int64)


def split_components(surface: Surface, labels: np.ndarray) -> np.ndarray:
    """Numbers the connected parts of equal label from 0 without gaps, [T] int64."""
    one, corner = np.nonzero(surface.neighbors >= 0)
    two = surface.neighbors[one, corner]
    same = labels[one] == labels[two]
    count = len(labels)
    graph = coo_matrix((np.ones(int(same.sum()), np.int8), (one[same], two[same])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


class _Joiner:
    """Greedy union of neighboring charts whose normals fit into one cone; normals are kept as occupied bins."""

    def __init__(self, surface: Surface, normals: np.ndarray, charts: np.ndarray):
        self.bins = directions(400)
        count = int(charts.max()) + 1
        nearest = np.concatenate([(part @ self.bins.T).argmax(1) for part in np.array_split(normals, 64)])
        self.occupied = np.zeros((count, len(self.bins)), dtype=bool)
        self.occupied[charts, nearest] = True
        self.sums = np.stack([np.bincount(charts, normals[:, k] * surface.areas, count) for k in range(3)], axis=1)
        self.areas = np.bincount(charts, surface.areas, count)
        self.parent = np.arange(count)
        one, corner = np.nonzero(surface.neighbors >= 0)
        two = surface.neighbors[one, corner]
        border = charts[one] != charts[two]
        one, two, corner = one[border], two[border], corner[border]
        shared = coo_matrix((surface.edge_lengths[one, corner], (charts[one], charts[two])), shape=(count, count))
        shared = shared.tocsr()
        self.shared: list[dict[int, float]] = [
            dict(
                zip(
                    shared.indices[shared.indptr[i] : shared.indptr[i + 1]].tolist(),
                    shared.data[shared.indptr[i] : shared.indptr[i + 1]].tolist(),
                    strict=True,
                )
            )
            for i in range(count)
        ]
        self.version = [0] * count

    def fits(self, one: int, two: int, cosine: float) -> bool:
        axis = self.sums[one] + self.sums[two]
        length = float(np.sqrt(axis @ axis))
        occupied = self.occupied[one] | self.occupied[two]
        return length > 0 and bool(((self.bins @ axis)[occupied] > cosine * length).all())

    def run(self, cosine: float, largest: float) -> None:
        """Joins charts whose smaller is below `largest` area, those of longest common border for their size first."""
        queue: list[tuple[float, int, int, int, int]] = []
        for one in range(len(self.parent)):
            if self.parent[one] == one:
                self._offer(queue, one, largest)
        heapq.heapify(queue)
        while queue:
            _, one, two, version_one, version_two = heapq.heappop(queue)
            if self.version[one] != version_one or self.version[two] != version_two or not self.fits(one, two, cosine):
                continue
            self._join(one, two)
            fresh: list[tuple[float, int, int, int, int]] = []
            self._offer(fresh, one, largest, both=True)
            for item in fresh:
                heapq.heappush(queue, item)

    def _offer(
        self, queue: list[tuple[float, int, int, int, int]], one: int, largest: float, both: bool = False
    ) -> None:
        for two, length in self.shared[one].items():
            smaller = min(self.areas[one], self.areas[two])
            if (one < two or both) and smaller <= largest:
                queue.append((smaller / max(length, 1e-30), one, two, self.version[one], self.version[two]))

    def _join(self, one: int, two: int) -> None:
        self.parent[two] = one
        self.sums[one] += self.sums[two]
        self.areas[one] += self.areas[two]
        self.occupied[one] |= self.occupied[two]
        self.version[one] += 1
        self.version[two] += 1
        for other, length in self.shared[two].items():
            del self.shared[other][two]
            if other != one:
                self.shared[one][other] = self.shared[one].get(other, 0.0) + length
                self.shared[other][one] = self.shared[one][other]
        self.shared[two] = {}

    def labels(self, charts: np.ndarray) -> np.ndarray:
        root = self.parent
        while not np.array_equal(root, root[root]):
            root = root[root]
        return np.unique(root[charts], return_inverse=True)[1]


def segment(
    surface: Surface, cone: float = 38.0, widest_cone: float = 75.0, border: float = 0.004, seeds: int = 14
) -> np.ndarray:
    """Chart number [T] int64 of each triangle, from 0 without gaps; every chart is connected across edges.

    `cone` and `widest_cone` (degrees) bound the angle between a chart's normals and its axis, for joining any charts
    (38 keeps the sides of a box apart) and for absorbing small ones; `border` is the cost of chart borders relative to
    the square root of the area.
    """
    if not len(surface.triangles):
        return np.zeros(0, np.int64)
    total = float(surface.areas.sum())
    normals = smooth_normals(surface, 4)
    axes = directions(seeds)
    labels = (normals @ axes.T).argmax(1)
    border_cost = border * np.sqrt(total)
    labels = smooth_labels(surface, normals, labels, axes, border_cost, 30)
    for _ in range(2):
        charts = split_components(surface, labels)
        axes = chart_axes(normals, surface.areas, charts)
        labels = smooth_labels(surface, normals, charts, axes, border_cost, 12)
    charts = split_components(surface, labels)
    joiner = _Joiner(surface, normals, charts)
    joiner.run(np.cos(np.radians(cone)), np.inf)
    joiner.run(np.cos(np.radians(0.5 * (cone + widest_cone))), 0.005 * total)
    joiner.run(np.cos(np.radians(widest_cone)), 0.001 * total)
    return joiner.labels(charts)


def chart_axes(normals: np.ndarray, areas: np.ndarray, charts: np.ndarray) -> np.ndarray:
    """Unit mean normals [C, 3] of the charts, weighted by area."""
    count = int(charts.max()) + 1
    sums = np.stack([np.bincount(charts, normals[:, k] * areas, count) for k in range(3)], axis=1)
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    first = np.zeros(count, np.int64)
    first[charts] = np.arange(len(charts))
    return np.where(length > 0, sums / np.maximum(length, 1e-300), normals[first])
