# SPDX-License-Identifier: GPL-3.0-or-later
import numpy as np
import torch
import trimesh

from backend.geometry import cleaning, manifold, mesh
from tests.geometry.mesh_checks import check

CUBE = trimesh.creation.box()


def tensors(shape: trimesh.Trimesh) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(np.asarray(shape.vertices), dtype=torch.float32), torch.tensor(np.asarray(shape.faces))


def grid(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A flat square of size² vertices with a border."""
    index = torch.arange(size * size).reshape(size, size)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = torch.cat([torch.stack(x, -1).reshape(-1, 3) for x in ((a, c, b), (a, d, c))])
    points = torch.stack([index // size, index % size, torch.zeros_like(index)], -1).reshape(-1, 3).float()
    return points, triangles


def test_vertex_normals_of_a_sphere_point_outwards():
    vertices, triangles = tensors(trimesh.creation.icosphere(subdivisions=3))
    normals = mesh.vertex_normals(vertices, triangles)
    assert (normals * vertices).sum(1).min() > 0.9995
    tiny = mesh.vertex_normals(vertices * 1e-6, triangles)
    assert (tiny - normals).abs().max() < 1e-3


def test_vertex_normals_gradient():
    vertices, triangles = tensors(trimesh.creation.icosphere(subdivisions=0))
    vertices = vertices.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: mesh.vertex_normals(v, triangles), (vertices,))


def test_unused_vertices_have_a_normal_and_a_gradient():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]], requires_grad=True)
    normals = mesh.vertex_normals(vertices, torch.tensor([[0, 2, 1], [0, 0, 1]]))
    assert torch.equal(normals[3].detach(), torch.tensor([0.0, 0.0, 1.0]))
    normals.sum().backward()
    assert torch.isfinite(vertices.grad).all()


def test_neighbors_are_mutual_and_share_the_edge():
    for vertices, triangles in (tensors(trimesh.creation.torus(1, 0.3)), grid(5)):
        neighbors = mesh.triangle_neighbors(triangles)
        assert neighbors.dtype == torch.int32
        for t, e in torch.nonzero(neighbors >= 0).tolist():
            other = int(neighbors[t, e])
            edge = {int(triangles[t, e]), int(triangles[t, (e + 1) % 3])}
            assert edge <= set(triangles[other].tolist())
            assert t in neighbors[other].tolist()
        assert int((neighbors < 0).sum()) == check(vertices, triangles).boundary_edges


def test_check_counts_each_defect():
    vertices, triangles = tensors(CUBE)
    assert check(vertices, triangles).closed
    assert check(vertices, triangles[1:]).boundary_edges == 3
    flipped = torch.cat([triangles[:1].flip(1), triangles[1:]])
    assert check(vertices, flipped).flipped_edges == 3
    assert check(vertices, torch.cat([triangles, triangles[:1]])).duplicate_triangles == 1
    assert check(vertices, torch.cat([triangles, triangles[:1]])).nonmanifold_edges == 3
    assert check(vertices, torch.cat([triangles, torch.tensor([[0, 0, 1]])])).degenerate_triangles == 1
    assert check(torch.cat([vertices, vertices[:1]]), triangles).unused_vertices == 1


def test_weld_joins_a_triangle_soup():
    vertices, triangles = tensors(CUBE)
    soup = vertices[triangles].reshape(-1, 3)
    welded, joined = cleaning.weld(soup, torch.arange(len(soup)).reshape(-1, 3))
    assert len(welded) == 8 and check(welded, joined).closed


def test_remove_degenerate_keeps_one_of_duplicates_and_drops_fins():
    vertices, triangles = tensors(CUBE)
    extra = torch.cat([triangles, triangles[:1].roll(1, 1), torch.tensor([[0, 0, 1]])])
    cleaned = cleaning.remove_degenerate(vertices, extra)
    assert check(*cleaned).closed and len(cleaned[1]) == 12
    fin = torch.tensor([[0, 8, 9], [9, 8, 0]])
    points = torch.cat([vertices, torch.tensor([[2.0, 0, 0], [0, 2.0, 0]])])
    cleaned = cleaning.remove_degenerate(points, torch.cat([triangles, fin]))
    assert len(cleaned[1]) == 12 and len(cleaned[0]) == 8


def test_bodies_that_touch_in_an_edge_or_vertex_come_apart_closed():
    vertices, triangles = tensors(CUBE)
    for shift in ([1.0, 1.0, 0.0], [1.0, 1.0, 1.0]):
        both = torch.cat([vertices, vertices + torch.tensor(shift)])
        joined = cleaning.weld(both, torch.cat([triangles, triangles + 8]))
        before = check(*joined)
        assert before.nonmanifold_edges or before.nonmanifold_vertices
        points, faces, source = manifold.split_nonmanifold(*joined)
        after = check(points, faces)
        assert after.closed and after.components == 2 and len(points) == 16
        assert torch.equal(points, joined[0][source])


def test_small_components_go():
    big, small = tensors(trimesh.creation.icosphere(radius=1.0)), tensors(trimesh.creation.icosphere(radius=0.01))
    vertices = torch.cat([big[0], small[0] + 3])
    triangles = torch.cat([big[1], small[1] + len(big[0])])
    kept = cleaning.drop_small_components(vertices, triangles, 0.01)
    assert len(kept[1]) == len(big[1]) and len(kept[0]) == len(big[0])
    assert len(cleaning.drop_small_components(vertices, triangles, 1e-6)[1]) == len(triangles)


def test_empty_mesh():
    vertices, triangles = torch.zeros((0, 3)), torch.zeros((0, 3), dtype=torch.int64)
    assert len(cleaning.clean(vertices, triangles)[1]) == 0
    assert check(vertices, triangles).components == 0
    assert mesh.triangle_neighbors(triangles).shape == (0, 3)
