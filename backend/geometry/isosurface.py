# SPDX-License-Identifier: GPL-3.0-or-later
"""Differentiable isosurface of a signed distance field: dual marching cubes on a narrow band.

Each cell that the surface crosses gets one vertex per sheet of surface in it, at the mean of the crossings of that
sheet with the cell's edges (Gibson 1998; the sheets after Nielson, "Dual Marching Cubes", 2004); each crossed edge gets
a quad between the vertices of its four cells. The result has evenly sized triangles, no slivers, and gradients that
flow from vertex positions to field values through the linear crossing point. FlexiCubes (Shen et al. 2023) is this
construction with learned weights in place of the mean.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from .band import Band, edge_of


def _cell_edges() -> list[tuple[int, int]]:
    """Corner pairs of the 12 cell edges, in the numbering of `edge_of`, low end first."""
    edges = []
    for axis in range(3):
        b, c = (axis + 1) % 3, (axis + 2) % 3
        for bit_c in (0, 1):
            for bit_b in (0, 1):
                low = (bit_b << b) | (bit_c << c)
                edges.append((low, low | (1 << axis)))
    return edges


def _sheets(inside: list[bool], edges: list[tuple[int, int]]) -> list[int]:
    """Sheet number of each edge (−1 where not crossed) for one sign configuration.

    Crossings that share a face belong to one sheet. On a face with four crossings the inside corners are kept apart,
    a rule that both cells of the face decide alike.
    """
    crossed = [inside[a] != inside[b] for a, b in edges]
    parent = list(range(12))

    def root(e: int) -> int:
        while parent[e] != e:
            e = parent[e]
        return e

    for axis in range(3):
        for side in (0, 1):
            face = [e for e, (a, b) in enumerate(edges) if (a >> axis & 1) == side == (b >> axis & 1) and crossed[e]]
            if len(face) == 2:
                parent[root(face[0])] = root(face[1])
            elif len(face) == 4:
                for corner in range(8):
                    pair = [e for e in face if corner in edges[e]]
                    if inside[corner] and len(pair) == 2:
                        parent[root(pair[0])] = root(pair[1])
    roots = sorted({root(e) for e in range(12) if crossed[e]})
    return [roots.index(root(e)) if crossed[e] else -1 for e in range(12)]


@cache
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sheet of each edge [256, 12], sheets of each configuration [256], corner pairs [12, 2], edge numbers [3, 4]."""
    edges = _cell_edges()
    sheet_rows = [_sheets([bool(code >> k & 1) for k in range(8)], edges) for code in range(256)]
    sheet_of_edge = torch.tensor(sheet_rows, device=device)
    # The edge as each of the four cells of Band.edge_cells sees it: cell offsets (−,−), (0,−), (0,0), (−,0) in (b, c).
    seen_as = [
        [edge_of(axis, 1, 1), edge_of(axis, 0, 1), edge_of(axis, 0, 0), edge_of(axis, 1, 0)] for axis in range(3)
    ]
    return (
        sheet_of_edge,
        sheet_of_edge.amax(dim=1) + 1,
        torch.tensor(edges, device=device),
        torch.tensor(seen_as, device=device),
    )


def extract(values: Tensor, band: Band) -> tuple[Tensor, Tensor]:
    """Triangulate the zero level set of the field on a band.

    Args:
        values: [M] float32, signed distance at `band.vertices`, negative inside; differentiable.
        band: topology of the cells near the surface.

    Returns:
        Vertices [V, 3] float32, world, differentiable with respect to `values`, and triangles [T, 3] int32,
        counter-clockwise seen from outside. Both are empty where nothing crosses zero.
    """
    sheet_of_edge, sheet_count, cell_edges, seen_as = _tables(values.device)
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
