# SPDX-License-Identifier: GPL-3.0-or-later
"""The signed distance field: visual hull plus a learned residual, hash grid and small MLP (Müller et al. 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels.field_losses import eikonal, sign_change
from ..kernels.hash_grid import HashGridConfig, OpenLevels, hash_encode, make_table
from .band import Band, Grid


class SignedDistanceField(nn.Module):
    """Field values on the narrow band of a grid, with the dense grid kept up to date behind it.

    The residual is measured in cells, so that learning rates do not depend on the size of the capture. Levels of the
    hash grid are unlocked coarse to fine.
    """

    dense: Tensor  # [X, Y, Z] float32, the last known value everywhere, world units
    hull: Tensor  # [X, Y, Z] float32, the start, world units
    rim: Tensor  # [X, Y, Z] bool, the outermost layer, which stays outside the object
    origin: Tensor  # [3] float32, world position of the grid's first vertex

    def __init__(self, hull: Tensor, grid: Grid, config: HashGridConfig, width: int = 32) -> None:
        super().__init__()
        self.grid = grid
        self.config = config
        device = hull.device
        hull = hull.clone()
        rim = torch.zeros(hull.shape, dtype=torch.bool, device=device)
        for axis in range(3):
            for end in (0, -1):
                rim.select(axis, end).fill_(True)
        hull[rim] = hull[rim].clamp(min=grid.cell_size / 2)
        self.register_buffer("hull", hull)
        self.register_buffer("rim", rim, persistent=False)
        self.register_buffer("origin", torch.tensor(grid.origin, device=device), persistent=False)
        self.register_buffer("dense", hull.clone())
        self.table = nn.Parameter(make_table(config, device, None))
        self.mlp = nn.Sequential(
            nn.Linear(config.levels * config.features, width), nn.Softplus(beta=10), nn.Linear(width, 1)
        ).to(device)
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.bias)
        nn.init.normal_(last.weight, std=0.1 / width**0.5)
        self.open_levels = OpenLevels(config.levels, device)
        self.band = self.find_band()

    def find_band(self) -> Band:
        """The band around the present surface; the outermost layer of the grid always stays outside the object."""
        dense = self.dense
        for axis in range(3):
            for end in (0, -1):
                dense.select(axis, end).clamp_(min=self.grid.cell_size / 2)
        return Band.around_surface(dense, self.grid)

    def update_band(self) -> None:
        """Move the band to where the surface is now."""
        self.band = self.find_band()

    def forward(self) -> Tensor:
        """Signed distances [M] float32, world units, at `band.vertices`; the dense grid is updated with them."""
        band = self.band
        unit = (band.positions - self.origin) / self.grid.extent
        features = hash_encode(unit, self.table, self.config, self.open_levels.tensor)  # [M, L·F]
        residual = self.mlp(features)[:, 0] * self.grid.cell_size
        values = self.hull.reshape(-1)[band.vertices] + residual
        values = torch.where(self.rim.reshape(-1)[band.vertices], values.clamp(min=self.grid.cell_size / 2), values)
        self.dense.view(-1)[band.vertices] = values.detach()
        return values


def eikonal_loss(values: Tensor, band: Band, cell_size: float, some: Tensor | None = None) -> Tensor:
    """Mean squared deviation of |∇f| from 1 over the band's cells (Gropp et al. 2020), by differences along the edges.

    Only the cells with the numbers `some` count: a random part in each step does as well as all cells at once.
    """
    cells = torch.arange(len(band.corners), device=values.device) if some is None else some
    return eikonal(values, band.corners, cells, band.cells_used, cell_size)


def sign_change_loss(values: Tensor, band: Band, cell_size: float) -> Tensor:
    """Cross-entropy between the ends of the edges that change sign (Munkberg et al. 2022, eq. 2): no stray sheets."""
    return sign_change(values, band.edges, band.edges_used, cell_size)
