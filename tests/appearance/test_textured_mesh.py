# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames and texels of the finished mesh: tangents, normal maps, mip levels, and the material field behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from backend.appearance.bsdf import split_sum
from backend.appearance.environment import latlong_to_cube, prefilter
from backend.appearance.fragments import Fragments
from backend.appearance.material import MIN_ROUGHNESS, MaterialField, decode_material
from backend.appearance.projection import world_to_clip
from backend.appearance.textured_mesh import CHANNELS, SurfacePoints, TexturedMesh, sample, shade
from backend.kernels.hash_grid import HashGridConfig
from tests.appearance.scenes import studio

FOCAL = 32.0
SIZE = 32


def square(uvs: list[tuple[float, float]] | None = None) -> TexturedMesh:
    """Corners (±1, ±1, 0), facing +z, the whole texture upon it: u along +x, v along +y."""
    corners = torch.tensor([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]])
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
    uv = np.array(uvs or [(0, 0), (1, 0), (1, 1), (0, 1)], np.float32)
    return TexturedMesh.of(corners, triangles, torch.tensor([[0.0, 0.0, 1.0]]).repeat(4, 1), uv[triangles.numpy()])


def points_on(mesh: TexturedMesh, distance: float, tilt: float = 0.0) -> tuple[Fragments, SurfacePoints]:
    """Seen from `distance` above, the camera's y along +y; tilted about x by `tilt` radians."""
    c, s = np.cos(tilt), np.sin(tilt)
    pose = torch.tensor([[1, 0, 0, 0], [0, c, -s, -distance * s], [0, s, c, distance * c], [0, 0, 0, 1]]).float()
    camera = torch.tensor([[FOCAL, FOCAL, SIZE / 2, SIZE / 2]])
    matrices = world_to_clip(pose[None], camera, (SIZE, SIZE), 0.01)
    fragments = Fragments.of(mesh.vertices, mesh.triangles, matrices, pose[None, :3, 3], (SIZE, SIZE))
    return fragments, SurfacePoints.of(mesh, fragments)


def flat(height: int, width: int) -> torch.Tensor:
    """Textures [H, W, 7], gray with a flat normal map."""
    textures = torch.zeros(height, width, CHANNELS)
    textures[..., :3], textures[..., 3] = 0.5, 0.5
    return textures


def test_frames_and_uv_of_a_square() -> None:
    fragments, points = points_on(square(), 4.0)
    assert len(points.uv) == 16 * 16  # 2 · focal / distance pixels on each side
    expected = (points.positions[:, :2] + 1) / 2
    torch.testing.assert_close(points.uv, expected, atol=1e-5, rtol=0)
    for vectors, axis in ((points.tangents, 0), (points.bitangents, 1), (points.normals, 2)):
        torch.testing.assert_close(vectors, torch.eye(3)[axis].expand_as(vectors), atol=1e-5, rtol=0)
    toward = F.normalize(torch.tensor([0.0, 0.0, 4.0]) - points.positions, dim=-1)
    torch.testing.assert_close(points.view, toward, atol=1e-5, rtol=0)
    # Row 0 of the image is the top: there y and v are largest.
    assert float(points.uv[0, 1]) > float(points.uv[-1, 1])


def test_the_top_row_of_a_texture_is_the_top_of_v() -> None:
    textures = flat(16, 16)
    textures[:8, :, 0], textures[8:, :, 0] = 1.0, 0.0  # red above
    textures[:, :8, 2], textures[:, 8:, 2] = 1.0, 0.0  # blue on the left
    _, points = points_on(square(), 4.0)
    color = sample(textures, points)[0].base_color
    x, y = points.positions[:, 0], points.positions[:, 1]
    inner = (x.abs() > 0.15) & (y.abs() > 0.15)
    torch.testing.assert_close(color[inner, 0], (y[inner] > 0).float(), atol=1e-3, rtol=0)
    torch.testing.assert_close(color[inner, 2], (x[inner] < 0).float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("uvs", "tangent", "bitangent"),
    [
        ([(0, 0), (1, 0), (1, 1), (0, 1)], (1, 0, 0), (0, 1, 0)),
        ([(0, 1), (0, 0), (1, 0), (1, 1)], (0, 1, 0), (-1, 0, 0)),  # turned by a quarter
        ([(1, 0), (0, 0), (0, 1), (1, 1)], (-1, 0, 0), (0, 1, 0)),  # mirrored
    ],
)
def test_a_normal_map_tilts_along_u_and_v(
    uvs: list[tuple[float, float]], tangent: tuple[float, ...], bitangent: tuple[float, ...]
) -> None:
    _, points = points_on(square(uvs), 4.0)
    xy = torch.tensor([0.36, -0.48])
    expected = 0.36 * torch.tensor(tangent) - 0.48 * torch.tensor(bitangent) + 0.8 * torch.tensor([0.0, 0.0, 1.0])
    found = points.perturbed(xy.expand(len(points.uv), 2))
    torch.testing.assert_close(found, expected.expand_as(found), atol=1e-4, rtol=0)


def test_a_normal_map_beyond_the_unit_circle_stays_finite() -> None:
    _, points = points_on(square(), 4.0)
    xy = torch.full((len(points.uv), 2), 0.9, requires_grad=True)
    found = points.perturbed(xy)
    found[:, 0].sum().backward()
    assert torch.isfinite(found).all() and xy.grad is not None and torch.isfinite(xy.grad).all()
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(len(found)))


def test_the_footprint_of_a_pixel_grows_with_distance() -> None:
    for distance in (3.0, 6.0, 12.0):
        _, points = points_on(square(), distance)
        # A pixel sees distance / focal world units, half of that in uv.
        expected = torch.full((len(points.uv),), distance / FOCAL / 2)
        torch.testing.assert_close(points.texels_per_pixel, expected, rtol=1e-3, atol=0)
    middle = points_on(square(), 6.0, tilt=1.2)[1].texels_per_pixel.median()
    assert float(middle) > 2 * 6.0 / FOCAL / 2  # seen at a slant it is longer


def test_fine_detail_turns_gray_with_distance() -> None:
    textures = flat(64, 64)
    checker = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    textures[..., :3] = checker[..., None].float()
    spreads = []
    for distance in (0.5, 2.0, 4.0, 16.0):
        color = sample(textures, points_on(square(), distance)[1])[0].base_color
        spreads.append(float(color.std()))
        assert float(color.mean()) == pytest.approx(0.5, abs=0.03)
    assert spreads[0] > 0.1
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[2] < 0.02 and spreads[3] < 1e-3  # 4 and more texels a pixel


def test_the_longer_side_of_an_oblong_texture_counts() -> None:
    # 256 columns and 16 rows, a pixel to seven columns or so: stripes along the columns must blur out.
    textures = flat(16, 256)
    textures[..., :3] = (torch.arange(256) % 2)[None, :, None].float()
    color = sample(textures, points_on(square(), 1.7)[1])[0].base_color
    assert float(color.std()) < 0.02


def test_shading_is_split_sum_of_the_texels_with_gradients_to_them() -> None:
    generator = torch.Generator().manual_seed(5)
    textures = flat(8, 8)
    textures[..., :5] = 0.2 + 0.6 * torch.rand(8, 8, 5, generator=generator)
    textures[..., 5:] = 0.4 * torch.rand(8, 8, 2, generator=generator) - 0.2
    textures.requires_grad_()
    light = prefilter(latlong_to_cube(studio(16), 8))
    _, points = points_on(square(), 4.0, tilt=0.5)
    radiance, material, normals = shade(textures, points, light)
    # The slow way for some points: bilinear by hand, then the shading model.
    for index in (3, len(points.uv) // 2, len(points.uv) - 5):
        u, v = points.uv[index].tolist()
        x, y = u * 8 - 0.5, (1 - v) * 8 - 0.5
        values = torch.zeros(CHANNELS)
        for row in (int(np.floor(y)), int(np.floor(y)) + 1):
            for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                weight = (1 - abs(y - row)) * (1 - abs(x - column))
                values += weight * textures.detach()[min(max(row, 0), 7), min(max(column, 0), 7)]
        torch.testing.assert_close(material.base_color[index].detach(), values[:3], atol=1e-4, rtol=0)
        normal = torch.tensor([values[5], values[6], float((1 - values[5] ** 2 - values[6] ** 2).sqrt())])
        torch.testing.assert_close(normals[index].detach(), normal, atol=1e-4, rtol=0)
        expected = split_sum(
            values[None, :3], values[None, 3:4], values[None, 4:5], normal[None], points.view[index][None], light
        )
        torch.testing.assert_close(radiance[index].detach(), expected[0], atol=1e-4, rtol=1e-3)
    (gradient,) = torch.autograd.grad(radiance.sum(), textures)
    assert (gradient.reshape(-1, CHANNELS).abs().amax(0) > 0).all()


def test_corners_are_shared_unless_a_seam_divides_them() -> None:
    shared = square()
    assert len(shared.corner_attributes) == 4
    vertices, triangles, normals = shared.vertices, shared.triangles, shared.normals
    uvs = np.array([[(0, 0), (0.4, 0), (0.4, 0.4)], [(0.6, 0.5), (1, 0.9), (0.6, 0.9)]], np.float32)
    cut = TexturedMesh.of(vertices, triangles, normals, uvs)
    assert len(cut.corner_attributes) == 6
    np.testing.assert_allclose(cut.corner_attributes[cut.corner_triangles.long()][..., 7:].numpy(), uvs)
    assert cut.neighbors.tolist() == [[-1, -1, 1], [0, -1, -1]]  # the seam is no border of the surface


# ---- the material field


def field(extent: float = 2.0) -> MaterialField:
    torch.manual_seed(0)
    config = HashGridConfig(levels=3, features=2, log2_table_size=10, base_resolution=4, finest_resolution=16)
    return MaterialField((-1.0, -1.0, -1.0), extent, config, 16, torch.device("cpu"))


def test_material_stays_in_its_range_and_is_alive_at_the_start() -> None:
    extremes = decode_material(torch.tensor([[-50.0] * 5, [50.0] * 5, [0.0] * 5]))
    assert extremes.roughness[:, 0].tolist() == pytest.approx([MIN_ROUGHNESS, 1, (1 + MIN_ROUGHNESS) / 2])
    assert extremes.base_color[:, 0].tolist() == pytest.approx([0, 1, 0.5], abs=1e-6)
    positions = torch.rand(50, 3) * 2 - 1
    material = field()(positions)
    for values in material:
        assert values.min() > 0.05 and values.max() < 0.95  # no sigmoid starts on its flat ends
    assert (material.metallic < 0.5).all()


def test_material_belongs_to_places_and_draws_the_surface_to_them() -> None:
    positions = (torch.rand(20, 3) * 2 - 1).requires_grad_()
    one = field()
    raw = one.raw(positions)
    raw.sum().backward()
    assert positions.grad is not None and positions.grad.any()
    assert one.table.grad is not None and one.table.grad.any()
    # The same place in a cube twice the size at twice the distance is the same place.
    two = field(extent=4.0)
    torch.testing.assert_close(two.raw((positions.detach() + 1) * 2 - 1), raw.detach())
