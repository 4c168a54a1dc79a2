# SPDX-License-Identifier: GPL-3.0-or-later
"""Differentiable isosurface of a signed distance field: dual marching cubes on a narrow band.

Each cell that the surface crosses gets one vertex per sheet of surface in it, at the mean of the crossings of that
sheet with the cell's edges (Gibson 1998; the sheets after Nielson, "Dual Marching Cubes", 2004); each crossed edge gets
a quad between the vertices of its four cells. The result has evenly sized triangles, no slivers, and gradients that
flow from vertex positions to field values through the linear crossing point. FlexiCubes (Shen et al. 2023) is this
construction with learned weights in place of the mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels.cell_tables import cell_tables
from .band import Band


def extract(values: Tensor, band: Band) -> tuple[Tensor, Tensor]:
    """Triangulate the zero level set of the field on a band.

    Args:
        values: [M] float32, signed distance at `band.vertices`, negative inside; differentiable.
        band: topology of the cells near the surface.

    Returns:
        Vertices [V, 3] float32, world, differentiable with respect to `values`, and triangles [T, 3] int32,
        counter-clockwise seen from outside. Both are empty where nothing crosses zero.
    """
    tables = cell_tables(values.device)
    sheet_of_edge, sheet_count, cell_edges, seen_as = (
        table.long() for table in (tables.sheet_of_edge, tables.sheet_count, tables.edges, tables.seen_as)
    )
    inside = values.detach() < 0
    bit_values = 1 << torch.arange(8, device=values.device)
    codes = (inside[band.corners] * bit_values).sum(dim=1)  # [C]
    counts = sheet_count[codes]
    first_vertex = torch.cumsum(counts, 0) - counts  # [C]
    active = torch.nonzero(counts)[:, 0]

    corners = band.corners[active]  # [A, 8]
    sheet = sheet_of_edge[codes[active]]  # [A, 12]
    cell, edge = torch.nonzero(sheet >= 0, as_tuple=True)  # [K] crossings, each counted by all its cells
    low = corners[cell, cell_edges[edge, 0]]
    high = corners[cell, cell_edges[edge, 1]]
    s_low, s_high = values[low], values[high]
    t = (s_low / (s_low - s_high))[:, None]  # [K, 1] in (0, 1): the signs differ
    crossing = torch.lerp(band.positions[low], band.positions[high], t)  # [K, 3]
    owner = first_vertex[active[cell]] + sheet[cell, edge]  # [K]
    vertex_count = int(counts.sum())
    weight = torch.zeros(vertex_count, device=values.device).index_add(0, owner, torch.ones_like(s_low.detach()))
    vertices = torch.zeros(vertex_count, 3, device=values.device).index_add(0, owner, crossing) / weight[:, None]

    a, b = band.edges.unbind(1)
    quads = torch.nonzero(inside[a] != inside[b])[:, 0]
    cells = band.edge_cells[quads]  # [Q, 4]
    local = seen_as[band.edge_axis[quads]]  # [Q, 4]
    ring = first_vertex[cells] + sheet_of_edge[codes[cells], local]  # [Q, 4] counter-clockwise from the high end
    ring = torch.where(inside[a[quads]][:, None], ring, ring.flip(1))
    return vertices, _split_quads(vertices.detach(), ring)


def _split_quads(vertices: Tensor, ring: Tensor) -> Tensor:
    """Two triangles for each quad [Q, 4], cut along the shorter diagonal."""
    p = vertices[ring]  # [Q, 4, 3]
    first = (p[:, 0] - p[:, 2]).square().sum(-1) <= (p[:, 1] - p[:, 3]).square().sum(-1)
    ring = torch.where(first[:, None], ring, ring.roll(-1, 1))
    return torch.cat((ring[:, [0, 1, 2]], ring[:, [0, 2, 3]])).to(torch.int32)
