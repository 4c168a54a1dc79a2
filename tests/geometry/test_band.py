# SPDX-License-Identifier: GPL-3.0-or-later
"""The grid's geometry, and the band's topology against a slow search over the dense grid."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from backend.geometry.band import Band, Grid
from backend.kernels.cell_tables import edge_of


def random_field(shape: tuple[int, int, int], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.9


def coordinates(grid: Grid, flat: int) -> tuple[int, int, int]:
    _, ny, nz = grid.shape
    return flat // (ny * nz), flat // nz % ny, flat % nz


@pytest.mark.parametrize("cells", [1, 7, 64])
def test_a_grid_around_bounds_contains_them_with_a_margin(cells: int) -> None:
    bounds = torch.tensor([[-3.0, 2.0, 0.1], [1.0, 3.0, 1.7]])
    grid = Grid.around(bounds, cells)
    assert grid.cell_size == pytest.approx(4.0 / cells)
    positions = grid.all_positions(torch.device("cpu"))
    assert positions.shape == (grid.shape[0] * grid.shape[1] * grid.shape[2], 3)
    low, high = positions.amin(0), positions.amax(0)
    # At least one cell on each side, and nowhere more than two: memory grows with the cube.
    assert bool((bounds[0] - low >= 0.99 * grid.cell_size).all() and (high - bounds[1] >= 0.99 * grid.cell_size).all())
    assert bool((bounds[0] - low < 2.01 * grid.cell_size).all() and (high - bounds[1] < 2.01 * grid.cell_size).all())
    assert grid.extent == pytest.approx(float((high - low).max()), rel=1e-5)


def test_positions_run_along_z_fastest() -> None:
    grid = Grid((1.0, 2.0, 3.0), 0.5, (3, 4, 5))
    dense = grid.all_positions(torch.device("cpu")).view(3, 4, 5, 3)
    torch.testing.assert_close(dense[2, 1, 4], torch.tensor([2.0, 2.5, 5.0]))
    torch.testing.assert_close(grid.positions(torch.tensor([(2 * 4 + 1) * 5 + 4]))[0], dense[2, 1, 4])


def test_edges_of_a_cell_have_twelve_numbers() -> None:
    numbers = {edge_of(axis, b, c) for axis in range(3) for b in (0, 1) for c in (0, 1)}
    assert numbers == set(range(12))


@pytest.mark.parametrize("dilation", [0, 1, 2])
def test_active_cells_are_those_near_a_sign_change(dilation: int) -> None:
    field = torch.ones(9, 8, 10)
    field[4, 3, 5] = -1.0
    field[6, 6, 2] = -0.5
    grid = Grid((0.0, 0.0, 0.0), 1.0, (9, 8, 10))
    band = Band.around_surface(field, grid, dilation)
    low = {coordinates(grid, int(band.vertices[c])) for c in band.corners[:, 0]}
    expected = set()
    for x, y, z in itertools.product(range(8), range(7), range(9)):
        for point in ((4, 3, 5), (6, 6, 2)):
            # The point is a corner of the cells one below it to itself.
            if all(-1 - dilation <= a - p <= dilation for a, p in zip((x, y, z), point, strict=True)):
                expected.add((x, y, z))
    assert low == expected


@pytest.mark.parametrize("seed", [0, 1])
def test_topology_agrees_with_a_slow_search(seed: int) -> None:
    """Also where the surface meets the rim of the grid, around which flat indices must not wrap."""
    shape = (6, 5, 7)
    field = random_field(shape, seed)
    grid = Grid((0.5, -1.0, 2.0), 0.25, shape)
    band = Band.around_surface(field, grid, dilation=0)
    at = [coordinates(grid, int(v)) for v in band.vertices]
    torch.testing.assert_close(band.positions, grid.positions(band.vertices))

    cells = {}
    for number, corners in enumerate(band.corners.tolist()):
        low = at[corners[0]]
        for k, corner in enumerate(corners):
            assert at[corner] == tuple(c + (k >> axis & 1) for axis, c in enumerate(low))
        cells[low] = number
    signs = field < 0
    for low in itertools.product(*(range(n - 1) for n in shape)):
        block = signs[low[0] : low[0] + 2, low[1] : low[1] + 2, low[2] : low[2] + 2]
        assert (low in cells) == (bool(block.any()) and not bool(block.all()))

    expected = {}
    for start in itertools.product(*(range(n) for n in shape)):
        for axis in range(3):
            b, c = (axis + 1) % 3, (axis + 2) % 3
            ring = []
            for back_b, back_c in ((1, 1), (0, 1), (0, 0), (1, 0)):  # counter-clockwise seen from the high end
                cell = list(start)
                cell[b] -= back_b
                cell[c] -= back_c
                ring.append(cells.get((cell[0], cell[1], cell[2]), -1))
            end = tuple(s + (k == axis) for k, s in enumerate(start))
            if min(ring) >= 0:
                expected[start, end] = (axis, ring)
    found = {}
    for (a, b), axis, ring in zip(band.edges.tolist(), band.edge_axis.tolist(), band.edge_cells.tolist(), strict=True):
        assert (at[a], at[b]) not in found
        found[at[a], at[b]] = (axis, ring)
    assert found == expected


def test_a_field_without_a_surface_has_an_empty_band() -> None:
    grid = Grid((0.0, 0.0, 0.0), 1.0, (5, 5, 5))
    band = Band.around_surface(torch.ones(grid.shape), grid)
    assert len(band.vertices) == len(band.corners) == len(band.edges) == len(band.edge_cells) == 0
    assert band.corners.shape == (0, 8) and band.edges.shape == (0, 2) and band.edge_cells.shape == (0, 4)


def test_the_band_holds_the_whole_surface_when_it_moves_by_a_cell() -> None:
    """What the dilation is for: an isosurface stays closed until the band is made anew."""
    grid = Grid.around(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]), 24)
    radius = grid.all_positions(torch.device("cpu")).norm(dim=-1)
    band = Band.around_surface((radius - 0.7).view(grid.shape), grid, dilation=1)
    for shift in (-0.9, 0.9):
        moved = (radius - 0.7 - shift * grid.cell_size).reshape(-1)
        crossing = (moved[band.vertices[band.edges]] < 0).sum(1) == 1
        dense = (moved.view(grid.shape) < 0).int()
        expected = sum(int((dense.diff(dim=axis) != 0).sum()) for axis in range(3))
        assert int(crossing.sum()) == expected
