# SPDX-License-Identifier: GPL-3.0-or-later
"""The learned field: starts as the hull, stays closed, and its regularisers vanish where they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.geometry.band import Band, Grid
from backend.geometry.isosurface import extract
from backend.geometry.sdf import SignedDistanceField, eikonal_loss, sign_change_loss
from backend.kernels.hash_grid import HashGridConfig

LEVELS = HashGridConfig(levels=3, features=2, log2_table_size=10, base_resolution=4, finest_resolution=16)


def unit_grid(cells: int = 16) -> Grid:
    return Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), cells)


def sphere_field(grid: Grid, radius: float) -> Tensor:
    return (grid.all_positions(torch.device("cpu")).norm(dim=-1) - radius).view(grid.shape)


def make(hull: Tensor, grid: Grid) -> SignedDistanceField:
    torch.manual_seed(0)
    return SignedDistanceField(hull, grid, LEVELS, width=8)


def border_edges(triangles: Tensor) -> int:
    faces = triangles.numpy()
    pairs = np.concatenate((faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]))
    _, counts = np.unique(np.sort(pairs, axis=1), axis=0, return_counts=True)
    return int((counts % 2).sum())


def test_it_starts_as_the_hull() -> None:
    grid = unit_grid()
    hull = sphere_field(grid, 0.7)
    field = make(hull, grid)
    values = field()
    assert values.shape == field.band.vertices.shape
    difference = values - hull.reshape(-1)[field.band.vertices]
    assert float(difference.detach().abs().max()) < 0.5 * grid.cell_size  # the network is random but small
    vertices, triangles = extract(values, field.band)
    assert border_edges(triangles) == 0
    assert float((vertices.detach().norm(dim=-1) - 0.7).abs().max()) < 0.6 * grid.cell_size


def test_gradients_reach_the_table_and_the_network() -> None:
    grid = unit_grid()
    field = make(sphere_field(grid, 0.7), grid)
    field().square().sum().backward()
    assert field.table.grad is not None and float(field.table.grad.abs().max()) > 0
    assert all(p.grad is not None and float(p.grad.abs().max()) > 0 for p in field.mlp.parameters())


def test_it_learns_another_surface_and_the_band_follows() -> None:
    """From a sphere to one that is two cells smaller, which the first band does not reach."""
    grid = unit_grid(20)
    target = 0.75 - 2 * grid.cell_size
    field = make(sphere_field(grid, 0.75), grid)
    optimizer = torch.optim.Adam(field.parameters(), lr=2e-2)
    for step in range(120):
        if step % 5 == 0:
            field.update_band()
        values = field()
        loss = (values - (field.band.positions.norm(dim=-1) - target)).abs().mean() / grid.cell_size
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    field.update_band()
    vertices, triangles = extract(field().detach(), field.band)
    assert border_edges(triangles) == 0
    assert float(vertices.norm(dim=-1).mean()) == pytest.approx(target, abs=0.3 * grid.cell_size)
    # The dense grid knows it too.
    inside = (field.dense < 0).float().mean() * field.dense.numel() * grid.cell_size**3
    assert float(inside) == pytest.approx(4 / 3 * math.pi * target**3, rel=0.1)


def test_an_object_cut_by_the_rim_of_the_grid_is_closed_there() -> None:
    """A region of interest may cut through the object: the mesh ends at it with a wall, not with a hole."""
    grid = unit_grid()
    hull = (grid.all_positions(torch.device("cpu"))[:, 0] - 0.3).view(grid.shape)  # all of x < 0.3
    field = make(hull, grid)
    vertices, triangles = extract(field().detach(), field.band)
    assert len(triangles) and border_edges(triangles) == 0
    a, b, c = vertices[triangles.long()].unbind(1)
    side = (grid.shape[1] - 1) * grid.cell_size
    assert float((a * torch.linalg.cross(b, c)).sum() / 6) == pytest.approx(side * side * (0.3 + side / 2), rel=0.2)


def test_eikonal_loss_is_the_squared_excess_of_the_gradient() -> None:
    grid = unit_grid()
    direction = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5]), dim=0)
    plane = (grid.all_positions(torch.device("cpu")) @ direction).view(grid.shape)
    band = Band.around_surface(plane, grid)
    for slope in (1.0, 0.5, 2.0):
        values = slope * plane.reshape(-1)[band.vertices]
        assert float(eikonal_loss(values, band, grid.cell_size)) == pytest.approx((slope - 1) ** 2, abs=1e-4)


def test_parts_of_the_eikonal_loss_cover_all_cells() -> None:
    grid = unit_grid()
    band = Band.around_surface(sphere_field(grid, 0.6), grid)
    values = torch.randn(len(band.vertices), generator=torch.Generator().manual_seed(1))
    whole = float(eikonal_loss(values, band, grid.cell_size)) * len(band.corners)
    numbers = [torch.arange(k, len(band.corners), 4) for k in range(4)]
    parts = [float(eikonal_loss(values, band, grid.cell_size, some)) * len(some) for some in numbers]
    assert sum(parts) == pytest.approx(whole, rel=1e-4)


def test_losses_of_a_padded_band_are_those_of_the_band() -> None:
    grid = unit_grid()
    band = Band.around_surface(sphere_field(grid, 0.6), grid)
    padded = band.padded(1.5)
    exact = torch.randn(len(band.vertices), generator=torch.Generator().manual_seed(1)).requires_grad_()
    wide = torch.randn(len(padded.vertices), generator=torch.Generator().manual_seed(2))
    wide[: len(exact)] = exact.detach()
    wide.requires_grad_()
    some = torch.arange(len(padded.corners) // 3) * 3
    for used, values in ((band, exact), (padded, wide)):
        picked = some[some < len(band.corners)] if used is band else some
        loss = eikonal_loss(values, used, grid.cell_size, picked) + sign_change_loss(values, used, grid.cell_size)
        loss.backward()
    assert exact.grad is not None and wide.grad is not None
    torch.testing.assert_close(wide.grad[: len(exact)], exact.grad, rtol=1e-4, atol=1e-6)
    assert float(wide.grad[len(exact) :].abs().max()) == 0


def test_eikonal_gradient_is_finite_where_the_field_is_flat() -> None:
    grid = unit_grid()
    band = Band.around_surface(sphere_field(grid, 0.6), grid)
    values = torch.zeros(len(band.vertices), requires_grad=True)
    eikonal_loss(values, band, grid.cell_size).backward()
    assert values.grad is not None and bool(torch.isfinite(values.grad).all())


def test_sign_change_loss_prefers_fewer_crossings_and_pushes_them_away() -> None:
    grid = unit_grid()
    clean = sphere_field(grid, 0.6)
    band = Band.around_surface(clean, grid)
    values = clean.reshape(-1)[band.vertices].clone().requires_grad_()
    loss = sign_change_loss(values, band, grid.cell_size)
    loss.backward()
    assert float(loss.detach()) > 0 and values.grad is not None
    a, b = band.edges.unbind(1)
    crossing = (values[a] < 0) != (values[b] < 0)
    ends = torch.unique(band.edges[crossing])
    untouched = torch.ones(len(values), dtype=torch.bool)
    untouched[ends] = False
    assert float(values.grad[untouched].abs().max()) == 0
    # A vertex whose crossing neighbors all have the other sign is pulled over to them: a stray blob dissolves.
    spot = int(band.edges[~crossing][len(band.edges) // 3, 0])
    stray = clean.reshape(-1)[band.vertices].clone()
    around = torch.cat((b[a == spot], a[b == spot]))
    stray[around] = 0.5 * grid.cell_size
    stray[spot] = -0.1 * grid.cell_size
    stray.requires_grad_()
    sign_change_loss(stray, band, grid.cell_size).backward()
    assert stray.grad is not None and float(stray.grad[spot]) < 0


def test_sign_change_loss_of_a_field_without_a_surface_is_harmless() -> None:
    """The last sheet may vanish in a step; a NaN then would poison all parameters."""
    grid = unit_grid()
    band = Band.around_surface(sphere_field(grid, 0.6), grid)
    values = torch.ones(len(band.vertices), requires_grad=True)
    loss = sign_change_loss(values, band, grid.cell_size)
    assert bool(torch.isfinite(loss))
    loss.backward()
    assert values.grad is None or bool(torch.isfinite(values.grad).all())
