# SPDX-License-Identifier: GPL-3.0-or-later
import math

import numpy as np
import torch
import torch.nn.functional as F

from backend.kernels.reference import visibility as reference
from backend.kernels.visibility import Occluder, vertex_occlusion, vertex_visibility

CLEAR = 1e-4  # rays nearer than this to an edge (barycentric) are left out: there rounding decides


def _soup(count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Random triangles in the unit ball's neighborhood."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(count, 1, 3, generator=generator) * 0.6
    corners = centers + 0.5 * torch.randn(count, 3, 3, generator=generator)
    return corners.reshape(-1, 3), torch.arange(3 * count, dtype=torch.int32).view(-1, 3)


def _rays(count: int = 500) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays from inside and outside, with directions of many lengths."""
    generator = torch.Generator().manual_seed(1)
    origins = torch.randn(count, 3, generator=generator) * 1.5
    towards = 0.8 * torch.randn(count, 3, generator=generator) - origins
    return origins, towards * (0.2 + torch.rand(count, 1, generator=generator))


def _box() -> tuple[torch.Tensor, torch.Tensor]:
    """The unit cube, 12 triangles, seen from outside counter-clockwise."""
    corners = torch.tensor([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return corners, torch.tensor([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], dtype=torch.int32)


def test_rays_match_the_reference(device: str) -> None:
    vertices, triangles = _soup()
    origins, directions = _rays()
    occluder = Occluder(vertices.to(device), triangles.to(device))
    for t_min, t_max in [(0.0, math.inf), (0.3, 1.1), (1.2, math.inf), (0.0, 0.5)]:
        ids, t, clear = reference.closest_hit(
            vertices.numpy(), triangles.numpy(), origins.numpy(), directions.numpy(), t_min, t_max
        )
        keep = clear > CLEAR
        assert keep.sum() > 400 and 0 < (ids >= 0).sum() < len(ids)
        found, distance = occluder.closest_hit(origins.to(device), directions.to(device), t_min, t_max)
        assert found.dtype == torch.int32
        np.testing.assert_array_equal(found.cpu().numpy()[keep], ids[keep])
        np.testing.assert_allclose(distance.cpu().numpy()[keep], t[keep], rtol=1e-4, atol=1e-4)
        hit = occluder.any_hit(origins.to(device), directions.to(device), t_min, t_max)
        assert hit.dtype == torch.bool
        np.testing.assert_array_equal(hit.cpu().numpy()[keep], ids[keep] >= 0)


def test_refit_follows_the_vertices(device: str) -> None:
    vertices, triangles = _soup()
    origins, directions = _rays()
    given = vertices.to(device)
    occluder = Occluder(given, triangles.to(device))
    given.add_(100.0)  # the caller's tensor is the caller's
    moved = vertices.flip(1) * 0.7 + torch.tensor([0.3, 0.0, -0.2])
    for position in (vertices, moved):
        occluder.refit(position.to(device))
        ids, _, clear = reference.closest_hit(position.numpy(), triangles.numpy(), origins.numpy(), directions.numpy())
        found, _ = occluder.closest_hit(origins.to(device), directions.to(device))
        np.testing.assert_array_equal(found.cpu().numpy()[clear > CLEAR], ids[clear > CLEAR])


def test_both_sides_stop_a_ray(device: str) -> None:
    vertices, triangles = _box()
    occluder = Occluder(vertices.to(device), triangles.long().to(device))
    origins = torch.tensor([[0.5, 0.4, 0.3], [-1.0, 0.4, 0.3], [-1.0, 2.0, 0.3]], device=device)
    along_x = torch.tensor([[1.0, 0.0, 0.0]], device=device).expand(3, 3)
    ids, t = occluder.closest_hit(origins, along_x)
    assert t.tolist() == [0.5, 1.0, math.inf]
    assert ids[0] >= 0 and ids[1] >= 0 and ids[2] == -1
    # from outside, with a margin past the first wall, the second is found
    _, t = occluder.closest_hit(origins, along_x, t_min=1.5)
    torch.testing.assert_close(t.cpu(), torch.tensor([math.inf, 2.0, math.inf]))
    assert occluder.any_hit(origins, along_x, t_max=0.75).tolist() == [True, False, False]


def test_nothing_to_hit_and_no_rays(device: str) -> None:
    nothing = Occluder(torch.zeros(0, 3, device=device), torch.zeros(0, 3, dtype=torch.int32, device=device))
    origins, directions = (rays.to(device) for rays in _rays(5))
    nothing.refit(torch.zeros(0, 3, device=device))
    assert not nothing.any_hit(origins, directions).any()
    ids, t = nothing.closest_hit(origins, directions)
    assert bool((ids == -1).all()) and bool(t.isinf().all())
    vertices, triangles = _box()
    occluder = Occluder(vertices.to(device), triangles.to(device))
    none = torch.empty(0, 3, device=device)
    assert occluder.any_hit(none, none).shape == (0,)
    assert vertex_visibility(occluder, none, none, directions, 0.1).shape == (0, 5)
    assert vertex_occlusion(nothing, origins, directions, directions, 0.1).shape == (5, 5)


def test_degenerate_triangles_and_strange_rays(device: str) -> None:
    vertices, triangles = _box()
    nan = math.nan
    sliver = torch.tensor([[0, 0, 0], [0, 1, 1], [2, 2, 5]], dtype=torch.int32)
    occluder = Occluder(vertices.to(device), torch.cat([triangles, sliver]).to(device))
    origins = torch.tensor([[0.5, 0.4, 0.3], [0.5, 0.4, 0.3], [nan, 0.0, 0.0], [0.5, 0.4, 0.3]], device=device)
    directions = torch.tensor([[0.0, 0.0, 0.0], [nan, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 2.0]], device=device)
    ids, t = occluder.closest_hit(origins, directions)
    assert 0 <= int(ids[3]) < 12 and abs(float(t[3]) - 0.35) < 1e-6


def test_vertex_visibility(device: str) -> None:
    vertices, triangles = _soup()
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(40, 3, generator=generator)
    normals = F.normalize(torch.randn(40, 3, generator=generator), dim=1)
    directions = F.normalize(torch.randn(16, 3, generator=generator), dim=1)
    occluder = Occluder(vertices.to(device), triangles.to(device))
    given = points.to(device), normals.to(device), directions.to(device)
    seen = vertex_visibility(occluder, *given, 0.01)
    dark = vertex_occlusion(occluder, *given, 0.01)
    assert seen.shape == (40, 16) and seen.dtype == torch.int32 and dark.dtype == torch.bool

    origins = (points + 0.01 * normals)[:, None].expand(40, 16, 3).reshape(-1, 3).numpy()
    ids, _, clear = reference.closest_hit(
        vertices.numpy(), triangles.numpy(), origins, directions.repeat(40, 1).numpy()
    )
    above = normals @ directions.t()
    ids = np.where((above > 0).numpy(), ids.reshape(40, 16), -1)
    keep = (clear.reshape(40, 16) > CLEAR) & (above.abs() > 1e-5).numpy()
    np.testing.assert_array_equal(seen.cpu().numpy()[keep], ids[keep])
    np.testing.assert_array_equal(dark.cpu().numpy()[keep], ids[keep] >= 0)
    assert 0 < (ids >= 0).sum() < ids.size / 2


def test_a_convex_mesh_does_not_shadow_itself(device: str) -> None:
    vertices, triangles = _box()
    occluder = Occluder(vertices.to(device), triangles.to(device))
    corners = vertices[triangles.long()]
    centers = corners.mean(1).to(device)
    normals = F.normalize(torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), dim=1)
    directions = F.normalize(torch.randn(64, 3, generator=torch.Generator().manual_seed(5)), dim=1)
    outside = vertex_occlusion(occluder, centers, normals.to(device), directions.to(device), 1e-3)
    assert not outside.any()
    # from inside every direction above the (inward) horizon ends at a wall
    inside = vertex_occlusion(occluder, centers, -normals.to(device), directions.to(device), 1e-3)
    assert torch.equal(inside.cpu(), -normals @ directions.t() > 0)


def test_threads_do_not_change_the_answer() -> None:
    vertices, triangles = _soup()
    points = torch.randn(2000, 3, generator=torch.Generator().manual_seed(8))
    normals, directions = F.normalize(-points, dim=1), F.normalize(_rays(64)[1], dim=1)
    occluder = Occluder(vertices, triangles)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = vertex_visibility(occluder, points, normals, directions, 0.01)
        torch.set_num_threads(5)
        together = vertex_visibility(occluder, points, normals, directions, 0.01)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together) and bool((alone >= 0).any())
