# SPDX-License-Identifier: GPL-3.0-or-later
"""The narrow band: the cells of a regular grid that lie near the surface, with the topology an isosurface needs.

A dense grid knows the sign of the field everywhere; only the cells next to a sign change are evaluated in a step.
Their topology is found once and stays valid for the steps until the surface has moved by about a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Grid:
    """A regular grid of vertices in world space. `shape` counts vertices along x, y, z."""

    origin: tuple[float, float, float]
    cell_size: float
    shape: tuple[int, int, int]

    @staticmethod
    def around(bounds: Tensor, cells: int) -> Grid:
        """Grid with `cells` cells along the longest side of `bounds` [2, 3] (world) and a cell of margin around it."""
        extent = (bounds[1] - bounds[0]).cpu()
        cell_size = float(extent.max()) / cells
        counts = torch.ceil(extent / cell_size).long() + 2
        origin = ((bounds[0] + bounds[1]) / 2).cpu() - counts * cell_size / 2
        x, y, z = (int(n) + 1 for n in counts)
        return Grid((float(origin[0]), float(origin[1]), float(origin[2])), cell_size, (x, y, z))

    @property
    def extent(self) -> float:
        """Length of the longest side, world units."""
        return self.cell_size * (max(self.shape) - 1)

    def positions(self, indices: Tensor) -> Tensor:
        """World positions [M, 3] of the vertices with flat `indices` [M]."""
        _, ny, nz = self.shape
        coordinates = torch.stack((indices // (ny * nz), indices // nz % ny, indices % nz), dim=-1)  # [M, 3]
        return coordinates * self.cell_size + torch.tensor(self.origin, device=indices.device)

    def all_positions(self, device: torch.device) -> Tensor:
        """World positions [X·Y·Z, 3] of all vertices, z fastest."""
        x, y, z = self.shape
        return self.positions(torch.arange(x * y * z, device=device))


@dataclass(frozen=True)
class Band:
    """Cells near the surface. Local vertex numbers index `vertices`; local cell numbers index `corners`.

    Attributes:
        vertices: [M] int64, flat indices into the dense grid.
        positions: [M, 3] float32, world.
        corners: [C, 8] int64 local vertices; corner k stands at bits (k & 1, k >> 1 & 1, k >> 2 & 1) of (x, y, z).
        edges: [E, 2] int64 local vertices, low end first.
        edge_axis: [E] int64.
        edge_cells: [E, 4] int64 local cells around the edge, counter-clockwise seen from its high end.
        counts: [3] int64, vertices, cells and edges in use, the first of each; None where all are.

    Edges on the rim of the band, which miss one of their four cells, are left out.
    """

    vertices: Tensor
    positions: Tensor
    corners: Tensor
    edges: Tensor
    edge_axis: Tensor
    edge_cells: Tensor
    counts: Tensor | None = None

    @property
    def cells_used(self) -> Tensor:
        """How many cells are in use, [1] int64."""
        return self._used(1, self.corners)

    @property
    def edges_used(self) -> Tensor:
        """How many edges are in use, [1] int64."""
        return self._used(2, self.edges)

    def _used(self, kind: int, rows: Tensor) -> Tensor:
        if self.counts is None:
            return torch.full((1,), len(rows), device=rows.device)
        return self.counts[kind : kind + 1]

    def padded(self, room: float) -> Band:
        """A copy with space for `room` times as much: tensors that can stay while the band moves."""
        sizes = [int(room * len(rows)) for rows in (self.vertices, self.corners, self.edges)]
        vertices, cells, edges = sizes
        copy = Band(
            self.vertices.new_zeros(vertices),
            self.positions.new_zeros(vertices, 3),
            self.corners.new_zeros(cells, 8),
            self.edges.new_zeros(edges, 2),
            self.edge_axis.new_zeros(edges),
            self.edge_cells.new_zeros(edges, 4),
            self.vertices.new_zeros(3),
        )
        assert copy.take(self)
        return copy

    def take(self, other: Band) -> bool:
        """Hold what `other` holds, in the tensors of this padded band; False, and no change, if they are too small."""
        assert self.counts is not None
        sizes = len(other.vertices), len(other.corners), len(other.edges)
        if any(size > len(rows) for size, rows in zip(sizes, (self.vertices, self.corners, self.edges), strict=True)):
            return False
        for name in ("vertices", "positions", "corners", "edges", "edge_axis", "edge_cells"):
            rows = getattr(other, name)
            getattr(self, name)[: len(rows)] = rows
        self.vertices[sizes[0] :] = 0  # a corner of the grid, always outside: harmless to write to
        self.counts.copy_(torch.tensor(sizes))
        return True

    @staticmethod
    def around_surface(sdf: Tensor, grid: Grid, dilation: int = 1) -> Band:
        """The band of cells within `dilation` cells of a sign change of `sdf` [X, Y, Z]."""
        device = sdf.device
        nx, ny, nz = sdf.shape
        inside = (sdf < 0).to(torch.float32)[None, None]
        highest = functional.max_pool3d(inside, 2, 1)
        lowest = -functional.max_pool3d(-inside, 2, 1)
        active = (highest != lowest).to(torch.float32)  # [1, 1, X-1, Y-1, Z-1]
        if dilation:
            active = functional.max_pool3d(active, 2 * dilation + 1, 1, dilation)
        cell_low = torch.nonzero(active[0, 0])  # [C, 3]
        strides = torch.tensor([ny * nz, nz, 1], device=device)
        bits = torch.tensor([[k & 1, k >> 1 & 1, k >> 2 & 1] for k in range(8)], device=device)
        flat_corners = (cell_low * strides).sum(1, keepdim=True) + (bits * strides).sum(1)  # [C, 8]

        is_vertex = torch.zeros(nx * ny * nz, dtype=torch.bool, device=device)
        is_vertex[flat_corners.reshape(-1)] = True
        vertices = torch.nonzero(is_vertex)[:, 0]  # [M]
        local_vertex = torch.full((nx * ny * nz,), -1, dtype=torch.int64, device=device)
        local_vertex[vertices] = torch.arange(len(vertices), device=device)
        local_cell = torch.full((nx * ny * nz,), -1, dtype=torch.int64, device=device)  # by low corner
        local_cell[flat_corners[:, 0]] = torch.arange(len(cell_low), device=device)

        edges, axes, around = [], [], []
        for axis in range(3):
            step, b, c = strides[axis], strides[(axis + 1) % 3], strides[(axis + 2) % 3]
            high = local_vertex[(vertices + step).clamp(max=nx * ny * nz - 1)]
            # Flat indices wrap around at the faces of the grid: edges that lie on them have no four cells.
            whole_axes = [(vertices // strides[(axis + k) % 3] % sdf.shape[(axis + k) % 3]) for k in range(3)]
            inner = (whole_axes[0] < sdf.shape[axis] - 1) & (whole_axes[1] > 0) & (whole_axes[2] > 0)
            low = torch.nonzero((high >= 0) & inner)[:, 0]
            at = vertices[low]
            cells = local_cell[torch.stack((at - b - c, at - c, at, at - b), dim=-1).clamp(min=0)]  # [*, 4]
            whole = (cells >= 0).all(dim=1)
            edges.append(torch.stack((low, high[low]), dim=-1)[whole])
            axes.append(torch.full((int(whole.sum()),), axis, dtype=torch.int64, device=device))
            around.append(cells[whole])
        return Band(
            vertices,
            grid.positions(vertices),
            local_vertex[flat_corners],
            torch.cat(edges),
            torch.cat(axes),
            torch.cat(around),
        )
