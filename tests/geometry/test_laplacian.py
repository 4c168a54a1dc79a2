# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import torch
import trimesh

from backend.geometry import laplacian


def sphere(subdivisions: int) -> tuple[torch.Tensor, torch.Tensor]:
    shape = trimesh.creation.icosphere(subdivisions=subdivisions)
    return torch.tensor(shape.vertices, dtype=torch.float32), torch.tensor(shape.faces)


def test_laplacian_is_the_graph_laplacian():
    vertices, triangles = sphere(1)
    matrix = laplacian.uniform_laplacian(triangles, len(vertices)).to_dense()
    assert torch.equal(matrix, matrix.T) and matrix.sum(1).abs().max() == 0
    degrees = np.bincount(trimesh.Trimesh(vertices, triangles, process=False).edges_unique.reshape(-1))
    assert matrix.diagonal().tolist() == degrees.tolist()
    twice = laplacian.bilaplacian(triangles, len(vertices)).to_dense()
    assert (twice - matrix @ matrix).abs().max() < 1e-4
    preconditioner = laplacian.large_steps_matrix(triangles, len(vertices), 3.0).to_dense()
    assert (preconditioner - torch.eye(len(vertices)) - 3.0 * matrix).abs().max() < 1e-5


def test_laplacian_loss_vanishes_on_a_regular_patch():
    vertices, triangles = sphere(2)
    smooth = laplacian.laplacian_loss(vertices, triangles)
    torch.manual_seed(0)
    assert laplacian.laplacian_loss(vertices + 0.05 * torch.randn_like(vertices), triangles) > 3 * smooth
