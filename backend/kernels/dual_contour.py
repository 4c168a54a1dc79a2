# SPDX-License-Identifier: GPL-3.0-or-later
"""The isosurface of `geometry.isosurface.extract` in tensors of fixed size, without waiting for the device.

Vertices stand in the order of their cells, triangles in the order of their edges, both by prefix sums: the first halves
of all quads come before the second halves.
"""

from __future__ import annotations

from typing import Any, Protocol, no_type_check

import torch
import warp as wp
from torch import Tensor

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch, launch_range
from backend.kernels.cell_tables import cell_tables

# Crossings are computed as torch does, rounding included: on a regular grid many quads are squares, whose diagonals
# compare by their last bit.
wp.set_module_options({**MODULE_OPTIONS, "fuse_fp": False})

vec8 = wp.types.vector(length=8, dtype=wp.float32)
vec2l = wp.types.vector(length=2, dtype=wp.int64)
vec4l = wp.types.vector(length=4, dtype=wp.int64)


class Topology(Protocol):
    """Cells near the surface, as `geometry.band.Band` has them, whose comment says more: positions [M, 3] float32;
    corners [C, 8], edges [E, 2], edge_axis [E], edge_cells [E, 4] and counts [3], all int64."""

    @property
    def positions(self) -> Tensor: ...
    @property
    def corners(self) -> Tensor: ...
    @property
    def edges(self) -> Tensor: ...
    @property
    def edge_axis(self) -> Tensor: ...
    @property
    def edge_cells(self) -> Tensor: ...
    @property
    def counts(self) -> Tensor | None: ...


def extract_padded(
    values: Tensor, topology: Topology, capacity_vertices: int, capacity_triangles: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Triangulate the zero level set of the field on a band.

    Args:
        values: [M] float32, signed distance at the band's vertices, negative inside; differentiable.
        topology: the band.
        capacity_vertices: V, rows of the first result.
        capacity_triangles: T, rows of the second.

    Returns:
        Vertices [V, 3] float32, world, differentiable with respect to `values`, zero in unused places; triangles [T, 3]
        int32, counter-clockwise seen from outside, (0, 0, 0) in unused places; and how many of both there are, [2]
        int32. What is beyond the capacity is left out, with the triangles that need it, but counted.
    """
    counts, device = topology.counts, values.device
    if counts is None:
        counts = torch.tensor([len(values), len(topology.corners), len(topology.edges)], device=device)
    room = capacity_vertices, capacity_triangles
    result: tuple[Tensor, Tensor, Tensor] = _Extract.apply(values, topology, counts, room)
    return result


class _Extract(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, topology: Topology, used: Tensor, room: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        values, device = values.contiguous(), values.device
        cells, edges = len(topology.corners), len(topology.edges)
        vertices = torch.zeros(room[0], 3, device=device)
        triangles = torch.zeros(room[1], 3, dtype=torch.int32, device=device)
        counts = torch.zeros(2, dtype=torch.int32, device=device)
        codes = torch.empty(cells, dtype=torch.int32, device=device)
        marks = torch.empty(1 + cells + edges, dtype=torch.int32, device=device)  # see `_classify_cells`
        sums = marks
        if cells and edges:
            scalars, limits = as_warp(values, wp.float32), as_warp(used, wp.int64)
            corners, ends = as_warp(topology.corners, wp.int64), as_warp(topology.edges, vec2l)
            sheet_of_edge, sheet_count, cell_edges, seen_as = _tables(device)
            found, marked = as_warp(codes, wp.int32), as_warp(marks, wp.int32)
            launch_range(_classify_cells, cells, [scalars, corners, limits, sheet_count], [found, marked], device)
            launch_range(_classify_edges, edges, [scalars, ends, limits, cells], [marked], device)
            sums = torch.cumsum(marks, 0, dtype=torch.int32)
            totals, points = as_warp(sums, wp.int32), as_warp(vertices, wp.vec3)
            inputs = [scalars, as_warp(topology.positions, wp.vec3), corners, sheet_of_edge, cell_edges, found, totals]
            launch_range(_place_vertices, cells, inputs, [points], device)
            ring = [as_warp(topology.edge_axis, wp.int64), as_warp(topology.edge_cells, vec4l)]
            inputs = [scalars, ends, *ring, sheet_of_edge, seen_as, cells, found, totals, points]
            outputs = [as_warp(triangles, wp.vec3i), as_warp(counts, wp.int32)]
            launch_range(_make_triangles, edges, inputs, outputs, device)
        ctx.topology = topology
        ctx.save_for_backward(values, codes, sums)
        ctx.mark_non_differentiable(triangles, counts)
        return vertices, triangles, counts

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None, None]:
        values, codes, sums = ctx.saved_tensors
        topology, device, gradient = ctx.topology, values.device, gradient.contiguous()
        grad_values = torch.zeros_like(values)
        if len(codes) and len(topology.edges):
            sheet_of_edge, _, cell_edges, _ = _tables(device)
            inputs = [as_warp(values, wp.float32), as_warp(topology.positions, wp.vec3)]
            inputs += [as_warp(topology.corners, wp.int64), sheet_of_edge, cell_edges]
            inputs += [as_warp(codes, wp.int32), as_warp(sums, wp.int32), as_warp(gradient, wp.vec3)]
            launch(_place_vertices_backward, len(codes), inputs, [as_warp(grad_values, wp.float32)], device)
        return grad_values, None, None, None


def _tables(device: torch.device) -> list[Any]:
    tables = cell_tables(device)
    parts = (tables.sheet_of_edge, tables.sheet_count, tables.edges, tables.seen_as)
    return [as_warp(part, wp.int32) for part in parts]


@wp.kernel
@no_type_check
def _classify_cells(
    begin: wp.int32,
    values: wp.array(dtype=wp.float32),
    corners: wp.array2d(dtype=wp.int64),
    used: wp.array(dtype=wp.int64),
    sheet_count: wp.array(dtype=wp.int32),
    codes: wp.array(dtype=wp.int32),
    marks: wp.array(dtype=wp.int32),
):
    """Sign configuration of each cell. `marks` become, in this order: 0, the vertices of each cell, the quads of each
    edge; summed up, they say where each begins."""
    cell = begin + wp.tid()
    code = int(0)  # noqa: UP018
    if wp.int64(cell) < used[1]:
        for k in range(8):
            if values[int(corners[cell, k])] < 0.0:
                code = code | (1 << k)
    codes[cell] = code
    marks[1 + cell] = sheet_count[code]
    if cell == 0:
        marks[0] = 0


@wp.kernel
@no_type_check
def _classify_edges(
    begin: wp.int32,
    values: wp.array(dtype=wp.float32),
    edges: wp.array(dtype=vec2l),
    used: wp.array(dtype=wp.int64),
    cell_count: wp.int32,
    marks: wp.array(dtype=wp.int32),
):
    edge = begin + wp.tid()
    mark = int(0)  # noqa: UP018
    if wp.int64(edge) < used[2]:
        ends = edges[edge]
        if (values[int(ends[0])] < 0.0) != (values[int(ends[1])] < 0.0):
            mark = 1
    marks[1 + cell_count + edge] = mark


@wp.func
@no_type_check
def _mix(a: wp.vec3, b: wp.vec3, t: wp.float32) -> wp.vec3:
    """As torch.lerp."""
    result = a + t * (b - a)
    if t >= 0.5:
        result = b - (1.0 - t) * (b - a)
    return result


@wp.kernel
@no_type_check
def _place_vertices(
    begin: wp.int32,
    values: wp.array(dtype=wp.float32),
    positions: wp.array(dtype=wp.vec3),
    corners: wp.array2d(dtype=wp.int64),
    sheet_of_edge: wp.array2d(dtype=wp.int32),
    cell_edges: wp.array2d(dtype=wp.int32),
    codes: wp.array(dtype=wp.int32),
    sums: wp.array(dtype=wp.int32),
    vertices: wp.array(dtype=wp.vec3),
):
    """The mean of the crossings of each sheet of a cell."""
    cell = begin + wp.tid()
    first = sums[cell]
    for sheet in range(sums[cell + 1] - first):
        if first + sheet < vertices.shape[0]:
            total = wp.vec3(0.0, 0.0, 0.0)
            number = float(0.0)  # noqa: UP018
            for k in range(12):
                if sheet_of_edge[codes[cell], k] == sheet:
                    low = int(corners[cell, cell_edges[k, 0]])
                    high = int(corners[cell, cell_edges[k, 1]])
                    t = values[low] / (values[low] - values[high])
                    total += _mix(positions[low], positions[high], t)
                    number += 1.0
            vertices[first + sheet] = total / number


@wp.kernel
@no_type_check
def _place_vertices_backward(
    values: wp.array(dtype=wp.float32),
    positions: wp.array(dtype=wp.vec3),
    corners: wp.array2d(dtype=wp.int64),
    sheet_of_edge: wp.array2d(dtype=wp.int32),
    cell_edges: wp.array2d(dtype=wp.int32),
    codes: wp.array(dtype=wp.int32),
    sums: wp.array(dtype=wp.int32),
    grad_vertices: wp.array(dtype=wp.vec3),
    grad_values: wp.array(dtype=wp.float32),
):
    """One thread a cell."""
    cell = wp.tid()
    first = sums[cell]
    count = sums[cell + 1] - first
    if count == 0:
        return
    found = vec8()
    for sheet in range(count):
        if first + sheet < grad_vertices.shape[0]:
            number = float(0.0)  # noqa: UP018
            for k in range(12):
                if sheet_of_edge[codes[cell], k] == sheet:
                    number += 1.0
            g = grad_vertices[first + sheet] / number
            for k in range(12):
                if sheet_of_edge[codes[cell], k] == sheet:
                    low = cell_edges[k, 0]
                    high = cell_edges[k, 1]
                    i = int(corners[cell, low])
                    j = int(corners[cell, high])
                    span = values[i] - values[j]
                    # t = a / (a - b): dt/da = -b / (a - b)^2, dt/db = a / (a - b)^2
                    slope = wp.dot(g, positions[j] - positions[i]) / span
                    found[low] = found[low] - slope * (values[j] / span)
                    found[high] = found[high] + slope * (values[i] / span)
    for k in range(8):
        if found[k] != 0.0:
            wp.atomic_add(grad_values, int(corners[cell, k]), found[k])


@wp.kernel
@no_type_check
def _make_triangles(
    begin: wp.int32,
    values: wp.array(dtype=wp.float32),
    edges: wp.array(dtype=vec2l),
    edge_axis: wp.array(dtype=wp.int64),
    edge_cells: wp.array(dtype=vec4l),
    sheet_of_edge: wp.array2d(dtype=wp.int32),
    seen_as: wp.array2d(dtype=wp.int32),
    cell_count: wp.int32,
    codes: wp.array(dtype=wp.int32),
    sums: wp.array(dtype=wp.int32),
    vertices: wp.array(dtype=wp.vec3),
    triangles: wp.array(dtype=wp.vec3i),
    counts: wp.array(dtype=wp.int32),
):
    """The two halves of the quad around each edge that the surface crosses, cut along its shorter diagonal."""
    edge = begin + wp.tid()
    vertex_count = sums[cell_count]
    quad_count = sums[sums.shape[0] - 1] - vertex_count
    if edge == 0:
        counts[0] = vertex_count
        counts[1] = 2 * quad_count
    quad = sums[cell_count + edge] - vertex_count
    if sums[cell_count + edge + 1] - vertex_count == quad:
        return
    cells = edge_cells[edge]
    axis = int(edge_axis[edge])
    outward = values[int(edges[edge][0])] < 0.0
    ring = wp.vec4i(0, 0, 0, 0)
    for k in range(4):
        cell = int(cells[k])
        vertex = sums[cell] + sheet_of_edge[codes[cell], seen_as[axis, k]]
        if vertex >= vertices.shape[0]:
            return
        ring[wp.where(outward, k, 3 - k)] = vertex
    one = vertices[ring[0]] - vertices[ring[2]]
    other = vertices[ring[1]] - vertices[ring[3]]
    if wp.dot(one, one) > wp.dot(other, other):
        ring = wp.vec4i(ring[1], ring[2], ring[3], ring[0])
    if quad < triangles.shape[0]:
        triangles[quad] = wp.vec3i(ring[0], ring[1], ring[2])
    if quad_count + quad < triangles.shape[0]:
        triangles[quad_count + quad] = wp.vec3i(ring[0], ring[2], ring[3])
