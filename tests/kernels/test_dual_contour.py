# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels' isosurface is that of the slow reference, gradients included, with room to spare and without."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from backend.geometry.band import Band, Grid
from backend.geometry.isosurface import extract
from backend.kernels.adjacency import triangle_neighbors
from backend.kernels.antialias import build_neighbors
from backend.kernels.dual_contour import extract_padded


def fields() -> dict[str, Tensor]:
    """Signed distances on a grid of 20³: two rough balls that touch, and noise, where every configuration occurs."""
    grid = Grid((-1.0, -1.0, -1.0), 0.1, (20, 20, 20))
    points = grid.all_positions(torch.device("cpu"))
    balls = [(points - torch.tensor(c)).norm(dim=-1) - 0.4 for c in ([-0.35, 0.0, 0.0], [0.38, 0.1, 0.05])]
    noise = torch.randn(20, 20, 20, generator=torch.Generator().manual_seed(7))
    noise[[0, -1]] = noise[:, [0, -1]] = noise[:, :, [0, -1]] = 1.0
    # Roughness breaks the ties between the diagonals of a quad, which rounding would decide.
    return {"balls": torch.minimum(*balls).view(20, 20, 20) + 0.003 * noise, "noise": noise}


def quads(triangles: Tensor) -> list[frozenset[int]]:
    """Corners of each quad, whose second triangles follow all first ones."""
    both = torch.cat(triangles.chunk(2), dim=1)  # [Q, 6]
    return [frozenset(corners) for corners in both.tolist()]


@pytest.mark.parametrize("name", ["balls", "noise"])
def test_values_and_gradients_are_those_of_the_reference(device: str, name: str) -> None:
    field = fields()[name].to(device)
    grid = Grid((-1.0, -1.0, -1.0), 0.1, (20, 20, 20))
    band = Band.around_surface(field, grid)
    padded = band.padded(1.4)
    exact = field.reshape(-1)[band.vertices].clone().requires_grad_()
    wide = torch.full((len(padded.vertices),), -3.0, device=device)
    wide[: len(exact)] = exact.detach()
    wide.requires_grad_()
    vertices, triangles = extract(exact, band)
    room = (int(1.2 * len(vertices)), int(1.2 * len(triangles)))
    found, faces, counts = extract_padded(wide, padded, *room)
    assert counts.tolist() == [len(vertices), len(triangles)]
    torch.testing.assert_close(found[: len(vertices)], vertices, rtol=1e-5, atol=1e-5)
    assert float(found[len(vertices) :].detach().abs().max()) == 0 and int(faces[len(triangles) :].abs().max()) == 0
    assert quads(faces[: len(triangles)]) == quads(triangles)
    weights = torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1)).to(device)
    (vertices * weights).sum().backward()
    (found[: len(vertices)] * weights).sum().backward()
    assert exact.grad is not None and wide.grad is not None
    torch.testing.assert_close(wide.grad[: len(exact)], exact.grad, rtol=1e-3, atol=1e-4)
    assert float(wide.grad[len(exact) :].abs().max()) == 0


def test_what_has_no_room_is_left_out(device: str) -> None:
    field = fields()["balls"].to(device)
    band = Band.around_surface(field, Grid((-1.0, -1.0, -1.0), 0.1, (20, 20, 20)))
    padded = band.padded(1.0)
    values = field.reshape(-1)[band.vertices]
    vertices, triangles = extract(values, band)
    room = (len(vertices) // 2, len(triangles) // 2)
    found, faces, counts = extract_padded(values, padded, *room)
    assert counts.tolist() == [len(vertices), len(triangles)]
    assert found.shape == (room[0], 3) and faces.shape == (room[1], 3)
    torch.testing.assert_close(found, vertices[: room[0]], rtol=1e-5, atol=1e-5)
    whole = (triangles[: room[1]] < room[0]).all(dim=1, keepdim=True)
    assert torch.equal(faces, torch.where(whole, triangles[: room[1]], 0))
    wide = values.clone().requires_grad_()
    extract_padded(wide, padded, *room)[0].square().sum().backward()
    exact = values.clone().requires_grad_()
    extract(exact, band)[0][: room[0]].square().sum().backward()
    assert wide.grad is not None and exact.grad is not None
    torch.testing.assert_close(wide.grad, exact.grad, rtol=1e-3, atol=1e-4)


def test_a_band_without_padding_and_a_vanished_surface(device: str) -> None:
    field = fields()["noise"].to(device)
    band = Band.around_surface(field, Grid((-1.0, -1.0, -1.0), 0.1, (20, 20, 20)))
    values = field.reshape(-1)[band.vertices]
    vertices, triangles = extract(values, band)
    found, faces, counts = extract_padded(values, band, len(vertices), len(triangles))
    torch.testing.assert_close(found, vertices, rtol=1e-5, atol=1e-5)
    assert quads(faces) == quads(triangles) and counts.tolist() == [len(vertices), len(triangles)]
    if device == "cpu":
        assert torch.equal(faces, triangles)  # on CUDA the reference adds up in any order, which turns equal diagonals
    outside = torch.ones_like(values).requires_grad_()
    found, faces, counts = extract_padded(outside, band, 5, 7)
    assert not found.any() and not faces.any() and not counts.any()
    found.sum().backward()
    assert outside.grad is not None and not outside.grad.any()
    nothing = Band.around_surface(torch.ones(4, 4, 4, device=device), Grid((0.0, 0.0, 0.0), 1.0, (4, 4, 4)))
    found, faces, counts = extract_padded(values[:0], nothing, 5, 7)
    assert not found.any() and not faces.any() and not counts.any()


def test_neighbors_of_a_padded_mesh_are_those_of_the_mesh(device: str) -> None:
    field = fields()["balls"].to(device)
    band = Band.around_surface(field, Grid((-1.0, -1.0, -1.0), 0.1, (20, 20, 20)))
    vertices, triangles = extract(field.reshape(-1)[band.vertices], band)
    padded = torch.cat((triangles, triangles.new_zeros(50, 3)))
    found = triangle_neighbors(padded, len(vertices) + 10)
    assert torch.equal(found[: len(triangles)], build_neighbors(triangles))
    assert bool((found[len(triangles) :] == -1).all())
