# SPDX-License-Identifier: GPL-3.0-or-later
"""The object's reflection in itself: what color it has in which direction, and how pixels look it up."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from backend.appearance.cube_map import cube_coordinates, cube_directions, cube_solid_angles, sample_vertex_cubes
from backend.appearance.environment import EnvironmentLight, latlong_to_cube, prefilter
from backend.appearance.fragments import Fragments
from backend.appearance.glow import BOXES, GLOW_SIZE
from backend.appearance.local_light import LocalLight
from backend.appearance.projection import world_to_clip
from backend.appearance.transport import Transport, VertexLight
from backend.kernels.visibility import Occluder
from tests.appearance.scenes import Mesh, joined, nearest, patch, studio, under_a_ceiling

LIGHT = 16  # texels along a face of the environment
RED, GREEN = (0.8, 0.0, 0.0), (0.0, 0.8, 0.0)


def alley() -> tuple[Mesh, torch.Tensor]:
    """A gray floor between a red wall on the side of -x and a green one on that of +x; with the base color [V, 3]."""
    floor = patch((0, 0, 0), (1, 0, 0), (0, 3, 0), 8)
    red = patch((-1, 0, 0.45), (0, 3, 0), (0, 0, 0.45), 8)
    green = patch((1, 0, 0.45), (0, 0, 0.45), (0, 3, 0), 8)
    color = torch.tensor([(0.5, 0.5, 0.5), RED, GREEN]).repeat_interleave(len(floor[0]), 0)
    return joined(floor, red, green), color


def lit(mesh: Mesh, color: torch.Tensor, device: str, size: int = 8) -> tuple[Transport, VertexLight]:
    transport = Transport.trace(*(x.to(device) for x in mesh), size, bounce=True)
    base = torch.ones(6, LIGHT, LIGHT, 3, device=device)
    return transport, transport.light_vertices(prefilter(base), base, color.to(device))


def test_toward_each_wall_the_glow_has_its_color(device: str) -> None:
    mesh, color = alley()
    share, glow = (x.cpu() for x in lit(mesh, color, device)[1])
    glow = glow.view(-1, 6, GLOW_SIZE, GLOW_SIZE, 3)
    middle = nearest(mesh[0], (0.0, 0.0, 0.0))
    toward_green, toward_red = glow[middle, 0, 1], glow[middle, 1, 1]  # the upper boxes of +x and -x
    assert not toward_green[:, 0].any() and not toward_red[:, 1].any()
    assert (toward_green[:, 1] > 0.2).all()
    torch.testing.assert_close(toward_green[:, 1], toward_red[:, 0], atol=0.05, rtol=0)
    # Each wall sees the floor gray, and the other wall across it.
    foot = nearest(mesh[0][len(mesh[0]) // 3 :], (-1.0, 0.0, 0.45)) + len(mesh[0]) // 3
    across = glow[foot, 0]
    assert float(across[1, 0, 1]) > 3 * float(across[1, 0, 0])
    assert float(across[0, 0, 0]) > 0.1 and float(share[foot, 0]) > 0.2


def test_the_glow_is_the_mean_of_what_rays_hit_in_each_box() -> None:
    """Against loops over vertices and rays, in a mesh without symmetries and with a radiance of every vertex's own."""
    mesh, _ = alley()
    vertices, normals, triangles = mesh
    vertices = vertices + 0.02 * torch.randn(vertices.shape, generator=torch.Generator().manual_seed(1))
    transport = Transport.trace(vertices, normals, triangles, 8, bounce=True)
    radiance = torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(2))
    assert transport.glow is not None
    glow = transport.glow(radiance)
    directions, angles = cube_directions(8), cube_solid_angles(8)
    occluder = Occluder(vertices, triangles)
    offset = 2e-3 * float((vertices.amax(0) - vertices.amin(0)).norm())
    face, a, b = cube_coordinates(directions)
    boxes = face * 4 + (b > 0) * 2 + (a > 0)
    clear = 0
    for v in range(0, len(vertices), 7):
        origins = (vertices[v] + offset * normals[v]).expand(len(directions), 3)
        hits = occluder.closest_hit(origins, directions)[0]
        hidden = (hits >= 0) & (directions @ normals[v] > 0)
        seen = radiance[triangles[hits.clamp(min=0).long(), 0].long()]
        mean = (angles * hidden) @ seen / (angles * hidden).sum().clamp(min=1e-9)
        for box in range(BOXES):
            weight = angles * hidden * (boxes == box)
            expected = weight @ seen / weight.sum() if weight.any() else mean
            clear += int(hidden.any() and not weight.any())
            torch.testing.assert_close(glow[v, box], expected, atol=1e-5, rtol=1e-5)
    assert clear > 100


def test_a_clear_box_holds_the_mean() -> None:
    mesh, color = alley()
    glow = lit(mesh, color, "cpu")[1].glow.view(-1, 6, 4, 3)
    middle = glow[nearest(mesh[0], (0.0, 0.0, 0.0))]
    mean = middle[5, 0]  # below the floor's horizon
    torch.testing.assert_close(middle[[4, 5]], mean.expand(2, 4, 3))
    assert float(mean[2]) == 0 < 0.1 < float(mean[0]) < float(middle[1, 2, 0])
    assert float(mean[0]) == pytest.approx(float(mean[1]), rel=0.1)  # half of it is red wall, half green


def test_without_bounces_or_neighbors_there_is_no_glow(device: str) -> None:
    mesh, color = alley()
    dark = Transport.trace(*(x.to(device) for x in mesh), 8, bounce=False)
    base = torch.ones(6, LIGHT, LIGHT, 3, device=device)
    glow = dark.light_vertices(prefilter(base), base, color.to(device)).glow
    assert glow.shape == (len(color), BOXES, 3) and not glow.any()
    floor = patch((0, 0, 0), (1, 0, 0), (0, 1, 0), 2)
    alone = lit(floor, torch.ones_like(floor[0]), device)[1].glow
    assert alone.shape == (len(floor[0]), BOXES, 3) and not alone.any()


@pytest.mark.parametrize("size", [1, 2, 16])
def test_a_uniform_surface_glows_uniformly_in_any_cube_of_directions(device: str, size: int) -> None:
    vertices, normals, triangles = (x.to(device) for x in joined(alley()[0], patch((0, 9, 0), (1, 0, 0), (0, 1, 0), 2)))
    transport = Transport.trace(vertices, normals, triangles, size, bounce=True)
    assert transport.glow is not None
    glow = transport.glow(torch.full_like(vertices, 0.7))
    neighbors = (
        transport.direct.sum(1)
        < (normals @ cube_directions(size).to(device).T).clamp(min=0) @ (cube_solid_angles(size).to(device)) - 1e-4
    )
    assert neighbors.any() and not neighbors.all()
    expected = 0.7 * neighbors.float()[:, None, None].expand_as(glow)
    torch.testing.assert_close(glow, expected, atol=1e-5, rtol=0)


def test_the_glow_has_no_gradient_and_the_share_has() -> None:
    mesh, color = alley()
    light = EnvironmentLight(LIGHT)
    transport = Transport.trace(*mesh, 8, bounce=True)
    share, glow = transport.light_vertices(light.prefilter(), light.base(), color.requires_grad_())
    assert share.requires_grad and not glow.requires_grad


@pytest.mark.parametrize("side", [1, 2, 4])
def test_cubes_of_vertices_are_read_as_clamped_images_of_their_faces(device: str, side: int) -> None:
    generator = torch.Generator().manual_seed(side)
    count, before = 500, 5
    cubes = torch.rand(9, before + 6 * side * side, 2, generator=generator)
    triangles = torch.randint(9, (7, 3), generator=generator, dtype=torch.int32)
    ids = torch.randint(7, (count,), generator=generator, dtype=torch.int32)
    weights = torch.rand(count, 2, generator=generator) / 2
    directions = torch.randn(count, 3, generator=generator)
    inputs = [x.to(device) for x in (cubes, triangles, ids, weights, directions, torch.tensor(side))]
    found = sample_vertex_cubes(*inputs, torch.tensor(before, device=device)).cpu()
    face, a, b = cube_coordinates(directions)
    corners = torch.cat((weights, 1 - weights.sum(1, keepdim=True)), 1)
    mixed = (cubes[triangles[ids.long()].long(), before:] * corners[..., None, None]).sum(1)  # [P, 6·side², 2]
    images = mixed.view(count, 6, side, side, 2)[torch.arange(count), face].movedim(-1, 1)
    grid = torch.stack((a, b), -1)[:, None, None]
    expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False)[:, :, 0, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_mirror_between_the_walls_sees_both() -> None:
    mesh, color = alley()
    vertices, _, triangles = mesh
    transport, arriving = lit(mesh, color, "cpu")
    pose = torch.eye(4)
    pose[2, 3] = 4.0  # looks down
    matrices = world_to_clip(pose[None], torch.tensor([[40.0, 40.0, 16.0, 16.0]]), (32, 32), 0.01)
    fragments = Fragments.of(vertices, triangles, matrices, pose[None, :3, 3], (32, 32))
    base = torch.ones(6, LIGHT, LIGHT, 3)
    local = LocalLight.at(fragments, transport, prefilter(base), arriving)
    floor = fragments.interpolate(vertices).norm(dim=-1) < 0.3
    assert floor.any()
    for x, bright, dark in ((1.0, 1, 0), (-1.0, 0, 1)):
        directions = torch.tensor([x, 0.0, 0.4]).expand(len(floor), 3)
        radiance = local.radiance(directions, torch.full((len(floor), 1), 0.1))[floor]
        assert (radiance[:, bright] > 0.2).all() and (radiance[:, bright] > 3 * radiance[:, dark]).all()


def test_local_light_is_glow_where_the_environment_is_hidden() -> None:
    vertices, normals, triangles = under_a_ceiling()
    transport = Transport.trace(vertices, normals, triangles, 8, bounce=True)
    base = latlong_to_cube(studio(32), LIGHT)
    light = prefilter(base)
    arriving = transport.light_vertices(light, base, torch.full_like(vertices, 0.7))
    # Looks down through the slit at the floor's middle, from +x.
    pose = torch.tensor([[0.0, -0.3, 0.954, 3.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.954, 0.3, 0.6], [0.0, 0.0, 0.0, 1.0]])
    matrices = world_to_clip(pose[None], torch.tensor([[40.0, 40.0, 16.0, 16.0]]), (32, 32), 0.01)
    fragments = Fragments.of(vertices, triangles, matrices, pose[None, :3, 3], (32, 32))
    local = LocalLight.at(fragments, transport, light, arriving)
    positions = fragments.interpolate(vertices)
    middle = int((positions - torch.tensor([0.5, 0.0, 0.0])).norm(dim=-1).argmin())
    assert positions[middle].norm() < 0.8 and abs(float(positions[middle, 2])) < 1e-3
    count = len(positions)
    up = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)
    sharp = torch.full((count, 1), 0.1)
    above = fragments.interpolate(arriving.glow[:, 16:20].mean(1))  # straight up all four boxes of +z meet
    assert float(above[middle].min()) > 0.01
    torch.testing.assert_close(local.radiance(up, sharp)[middle], above[middle])
    outward = torch.tensor([0.98, 0.0, 0.2]).expand(count, 3)
    torch.testing.assert_close(local.radiance(outward, sharp)[middle], light.radiance(outward, sharp)[middle])
    expected = light.irradiance(up) * fragments.interpolate(arriving.share)
    torch.testing.assert_close(local.irradiance(up), expected)
