# SPDX-License-Identifier: GPL-3.0-or-later
"""Local search for vertex positions without folds and slivers: each vertex in turn takes the best of some candidates,
judged by the triangles around it and their neighbors across."""

from __future__ import annotations

import math

import torch
import warp as wp
from torch import Tensor

from backend.geometry.edge_operations import doubled, longest_edge, shape_of
from backend.geometry.half_edges import HalfEdges, Links, following, preceding
from backend.geometry.half_edges import turn as turned
from backend.kernels import bridge

wp.set_module_options(bridge.MODULE_OPTIONS)

# Somewhat inside the limits of what counts as a fault, so that what just passes is not left on the edge.
OPEN = wp.constant(math.cos(math.radians(140.0)))
SHAPELY = wp.constant(0.08)
ROOMY = wp.constant(0.02)  # of the mean area


@wp.func
def fold_cost(one: wp.vec3, two: wp.vec3) -> float:
    """From 0 for an open edge between triangles of these normals to 1.5 for one folded shut."""
    scale = wp.length(one) * wp.length(two)
    cost = wp.float32(1.5)
    if scale > 0.0:
        cost = wp.max(OPEN - wp.dot(one, two) / scale, 0.0)
        cost = wp.sqrt(cost)
    return cost


@wp.func
def star_cost(m: Links, v: int, at: wp.vec3, mean_area: float) -> float:
    """Folds and slivers among the triangles of a vertex, if it stood there, and across their outer edges."""
    cost = wp.float32(0.0)
    h = m.out[v]
    while h >= 0:
        h1 = following(h)
        p = preceding(h)
        ib = m.corner[h1]
        ic = m.corner[p]
        b = m.points[ib]
        c = m.points[ic]
        normal = doubled(at, b, c)
        area = 0.5 * wp.length(normal)
        cost += 10.0 * wp.max(SHAPELY - shape_of(at, b, c), 0.0)
        cost += 50.0 * wp.max(ROOMY - area / mean_area, 0.0)
        outer = m.twin[h1]
        if outer >= 0:
            apex = m.corner[preceding(outer)]
            if apex != v:
                cost += fold_cost(normal, doubled(c, b, m.points[apex]))
        side = m.twin[p]
        if side >= 0:
            cost += fold_cost(normal, doubled(at, c, m.points[m.corner[preceding(side)]]))
        h = turned(m, h)
    return cost


@wp.kernel
def _search(m: Links, active: wp.array(dtype=wp.int32), mean_area: float, seed: int) -> None:
    for i in range(active.shape[0]):
        v = active[i]
        if m.out[v] < 0:
            continue
        here = m.points[v]
        least = star_cost(m, v, here, mean_area)
        if least <= 0.0:
            continue
        mean = wp.vec3(0.0, 0.0, 0.0)
        normal = wp.vec3(0.0, 0.0, 0.0)
        reach = wp.float32(0.0)
        count = wp.float32(0.0)
        h = m.out[v]
        while h >= 0:
            b = m.points[m.corner[following(h)]]
            c = m.points[m.corner[preceding(h)]]
            mean += b
            normal += doubled(here, b, c)
            reach += wp.length(b - here)
            count += 1.0
            h = turned(m, h)
        mean = mean / count
        reach = wp.max(reach / count, wp.sqrt(mean_area))
        normal = wp.normalize(normal)
        state = wp.rand_init(seed, v)
        best = here
        for k in range(14):
            place = here + (mean - here) * (0.25 * float(k + 1))
            if k == 3:
                place = mean
            if k >= 4:
                side = wp.sample_unit_sphere_surface(state)
                if k >= 12:
                    side = normal * wp.where(k == 12, 1.0, -1.0)
                place = here + side * (reach * wp.randf(state) * 0.5)
            # A longer way has to be worth it.
            cost = star_cost(m, v, place, mean_area) + 0.02 * wp.length(place - here) / reach
            if cost < least - 1.0e-4:
                least = cost
                best = place
        m.points[v] = best


@wp.kernel
def _find_faults(
    first: int, m: Links, cosine: float, small: float, thin: float, faults: wp.array(dtype=wp.int32)
) -> None:
    f = first + wp.tid()
    a = m.points[m.corner[3 * f]]
    b = m.points[m.corner[3 * f + 1]]
    c = m.points[m.corner[3 * f + 2]]
    normal = doubled(a, b, c)
    area = 0.5 * wp.length(normal)
    bad = area < small or 2.0 * area < thin * longest_edge(a, b, c)
    for k in range(3):
        g = m.twin[3 * f + k]
        if g >= 0:
            i = m.corner[g]
            j = m.corner[following(g)]
            other = doubled(m.points[i], m.points[j], m.points[m.corner[preceding(g)]])
            bad = bad or wp.dot(normal, other) < 2.0 * cosine * area * wp.length(other)
    faults[f] = wp.where(bad, 1, 0)


def find_faults(mesh: HalfEdges, degrees: float, small: float, thin: float) -> Tensor:
    """Which triangles [T] bool are folded by more than `degrees` over a neighbor, have less area than `small`, or a
    height below `thin` of their longest edge."""
    faults = torch.empty(mesh.triangle_count, dtype=torch.int32)
    cosine = math.cos(math.radians(degrees))
    arguments = [mesh.links, cosine, small, thin]
    bridge.launch_range(_find_faults, len(faults), arguments, [bridge.as_array(faults, wp.int32)])
    return faults > 0


def search(mesh: HalfEdges, active: Tensor, mean_area: float, seed: int) -> None:
    """Moves the vertices `active` [N] where that takes folds and slivers away or makes them smaller."""
    numbers = bridge.as_array(active.to(torch.int32), wp.int32)
    bridge.launch(_search, 1, [mesh.links, numbers, mean_area, seed])
