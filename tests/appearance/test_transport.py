# SPDX-License-Identifier: GPL-3.0-or-later
"""Shadows and the bounce: against form factors, in shapes whose light is known, and as linear maps of the light."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from backend.appearance.cube_map import cube_directions, cube_solid_angles
from backend.appearance.environment import Prefiltered, latlong_to_cube, prefilter
from backend.appearance.fragments import Fragments
from backend.appearance.local_light import LocalLight
from backend.appearance.projection import world_to_clip
from backend.appearance.transport import Transport
from tests.appearance.scenes import studio
from tests.kernels.scenes import sphere

Mesh = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # vertices, normals, triangles

LIGHT = 16  # texels along a face of the environment


def patch(center: tuple[float, ...], u: tuple[float, ...], v: tuple[float, ...], cells: int) -> Mesh:
    """A flat grid spanned by the half sides u and v, facing u × v."""
    steps = torch.linspace(-1, 1, cells + 1)
    b, a = torch.meshgrid(steps, steps, indexing="ij")
    half_u, half_v, middle = (torch.tensor(x, dtype=torch.float32) for x in (u, v, center))
    vertices = middle + a.reshape(-1, 1) * half_u + b.reshape(-1, 1) * half_v
    k = (torch.arange(cells)[:, None] * (cells + 1) + torch.arange(cells)).reshape(-1)
    low = torch.stack((k, k + 1, k + cells + 2), 1)
    high = torch.stack((k, k + cells + 2, k + cells + 1), 1)
    normal = F.normalize(torch.linalg.cross(half_u, half_v), dim=0)
    return vertices, normal.repeat(len(vertices), 1), torch.cat((low, high)).int()


def joined(*meshes: Mesh) -> Mesh:
    """Several meshes as one; the vertices of the first come first."""
    starts = [0]
    for vertices, _, _ in meshes:
        starts.append(starts[-1] + len(vertices))
    return (
        torch.cat([m[0] for m in meshes]),
        torch.cat([m[1] for m in meshes]),
        torch.cat([m[2] + start for m, start in zip(meshes, starts)]),
    )


def nearest(vertices: torch.Tensor, point: tuple[float, ...]) -> int:
    return int((vertices - torch.tensor(point)).norm(dim=-1).argmin())


def form_factor(a: float, b: float) -> float:
    """Share of the cosine-weighted hemisphere behind a parallel rectangle with a corner above, sides a, b of its height
    (Howell, A Catalog of Radiation Heat Transfer Configuration Factors, B-3)."""
    x, y = math.hypot(1, a), math.hypot(1, b)
    return (a / x * math.atan(b / x) + b / y * math.atan(a / y)) / (2 * math.pi)


def gray(radiance: float = 1.0) -> tuple[torch.Tensor, Prefiltered]:
    base = torch.full((6, LIGHT, LIGHT, 3), radiance)
    return base, prefilter(base)


def arriving(transport: Transport, base: torch.Tensor, base_color: torch.Tensor) -> torch.Tensor:
    """Irradiance [V, 3] at the vertices."""
    light = prefilter(base)
    return transport.light_vertices(light, base, base_color)[:, :3] * light.irradiance(transport.normals)


def under_a_ceiling(half: float = 1.5) -> Mesh:
    floor = patch((0, 0, 0), (1, 0, 0), (0, 1, 0), 4)
    ceiling = patch((0, 0, 1), (0, half, 0), (half, 0, 0), 4)  # faces down
    return joined(floor, ceiling)


@pytest.mark.parametrize(("size", "tolerance"), [(8, 0.06), (32, 0.015)])
@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_the_share_under_a_ceiling_is_what_its_form_factor_leaves(
    device: str, size: int, tolerance: float, x: float
) -> None:
    vertices, normals, triangles = under_a_ceiling()
    transport = Transport.trace(vertices.to(device), normals.to(device), triangles.to(device), size, bounce=False)
    base = torch.ones(6, 32, 32, 3, device=device)
    share = transport.light_vertices(prefilter(base), base, torch.ones_like(vertices, device=device))[:, :3].cpu()
    blocked = 2 * form_factor(1.5 - x, 1.5) + 2 * form_factor(1.5 + x, 1.5)
    assert 0.5 < blocked < 0.8
    index = nearest(vertices, (x, 0.0, 0.0))
    assert share[index].tolist() == pytest.approx([1 - blocked] * 3, abs=tolerance)
    assert float(transport.blocked_cosine[index]) == pytest.approx(math.pi * blocked, abs=math.pi * tolerance)


def test_a_wall_takes_half_of_the_sky_and_only_its_own_half() -> None:
    floor = patch((1, 0, 0), (1, 0, 0), (0, 1, 0), 4)
    wall = patch((-0.05, 0, 20), (0, 40, 0), (0, 0, 20.05), 2)
    vertices, normals, triangles = joined(floor, wall)
    transport = Transport.trace(vertices, normals, triangles, 16, bounce=False)
    index = nearest(vertices, (0.5, 0.0, 0.0))
    base, light = gray()
    share = transport.light_vertices(light, base, torch.ones_like(vertices))[index, :3]
    assert share.tolist() == pytest.approx([0.5] * 3, abs=0.03)
    # Light from the wall's side (-x) does not arrive, from the other side all does.
    for face, expected in ((1, 0.0), (0, 1.0)):
        one_sided = torch.full((6, LIGHT, LIGHT, 3), 1e-6)
        one_sided[face] = 1.0
        with_wall = arriving(transport, one_sided, torch.ones_like(vertices))[index, 0]
        alone = Transport.trace(*floor[:2], floor[2], 16, bounce=False)
        without = arriving(alone, one_sided, torch.ones_like(floor[0]))[nearest(floor[0], (0.5, 0.0, 0.0)), 0]
        assert without > 0.1
        assert float(with_wall / without) == pytest.approx(expected, abs=0.02)


def test_a_sphere_sees_everything(device: str) -> None:
    vertices, triangles = (x.to(device) for x in sphere(12, 24))
    transport = Transport.trace(vertices, F.normalize(vertices, dim=-1), triangles, 8, bounce=True)
    assert float(transport.blocked_cosine.max()) < 1e-3
    for base, tolerance in (
        (torch.ones(6, LIGHT, LIGHT, 3), 0.01),
        (latlong_to_cube(studio(32), LIGHT), 0.06),  # lamps are a few of the cube's texels
    ):
        base = base.to(device)
        share = transport.light_vertices(prefilter(base), base, torch.rand_like(vertices))
        torch.testing.assert_close(share[:, :3], torch.ones_like(vertices), atol=tolerance, rtol=0)
        assert float(share[:, 3:].max()) < 1e-3
    count = 400
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(triangles), (count,), generator=generator).to(device)
    weights = torch.rand(count, 2, generator=generator).to(device) / 2
    normals = F.normalize(vertices[triangles[ids].long()].mean(1), dim=-1)
    directions = F.normalize(normals + 0.9 * F.normalize(torch.randn(count, 3, generator=generator), dim=-1).to(device))
    roughness = torch.rand(count, 1, generator=generator).to(device)
    visible = transport.specular_visibility(triangles, ids.int(), weights, directions, roughness)
    torch.testing.assert_close(visible, torch.ones_like(visible))


def test_a_closed_room_is_dark() -> None:
    vertices, triangles = sphere(10, 16)
    inward, normals = triangles.flip(1), -F.normalize(vertices, dim=-1)
    transport = Transport.trace(vertices, normals, inward, 8, bounce=True)
    base, light = gray(5.0)
    shares = transport.light_vertices(light, base, torch.ones_like(vertices))
    assert float(shares.abs().max()) < 1e-3
    torch.testing.assert_close(
        transport.blocked_cosine, torch.full_like(transport.blocked_cosine, math.pi), atol=0.1, rtol=0
    )


def corner() -> Mesh:
    floor = patch((1, 0, 0), (1, 0, 0), (0, 2, 0), 6)
    wall = patch((0, 0, 1), (0, 2, 0), (0, 0, 1), 6)  # faces +x
    return joined(floor, wall)


def test_the_bounce_adds_what_the_albedo_reflects() -> None:
    vertices, normals, triangles = corner()
    plain = Transport.trace(vertices, normals, triangles, 16, bounce=False)
    bounced = Transport.trace(vertices, normals, triangles, 16, bounce=True)
    base, light = gray()
    albedo = torch.tensor([0.8, 0.4, 0.0]).expand(len(vertices), 3)
    without = plain.light_vertices(light, base, albedo)
    result = bounced.light_vertices(light, base, albedo)
    added = result[:, :3] - without[:, :3]
    index = nearest(vertices, (1 / 3, 0.0, 0.0))
    assert float(added[index, 0]) > 0.05
    torch.testing.assert_close(added[:, 1], added[:, 0] / 2, atol=1e-5, rtol=1e-4)
    assert not added[:, 2].any() and not without[:, 3:].any()
    # What stands in the way of the floor is wall, whose radiance under a sky of one is albedo · its own share.
    on_wall = len(vertices) // 2
    wall_share = without[on_wall:, 0]
    low, high = 0.8 * float(wall_share.min()), 0.8 * float(wall_share.max())
    assert low - 1e-4 <= float(result[index, 3]) <= high + 1e-4
    blocked = 1 - float(without[index, 0])
    assert blocked * low - 0.02 <= float(added[index, 0]) <= blocked * high + 0.02
    # Nearer the corner more comes back.
    assert float(added[index, 0]) > 2 * float(added[nearest(vertices, (2.0, 0.0, 0.0)), 0])


def test_arriving_light_is_linear_in_the_light() -> None:
    vertices, normals, triangles = corner()
    transport = Transport.trace(vertices, normals, triangles, 8, bounce=True)
    albedo = torch.rand(len(vertices), 3, generator=torch.Generator().manual_seed(3))
    one = torch.rand(6, LIGHT, LIGHT, 3, generator=torch.Generator().manual_seed(4)) + 0.05
    two = latlong_to_cube(studio(16), LIGHT)
    together = arriving(transport, 2 * one + 0.5 * two, albedo)
    separate = 2 * arriving(transport, one, albedo) + 0.5 * arriving(transport, two, albedo)
    # Vertices on the fold see nothing of the sky on one side; the clamp of the division by it is not linear.
    torch.testing.assert_close(together, separate, atol=1e-4, rtol=1e-4)


def sun(height: float, azimuth: float, strength: float = 400.0) -> torch.Tensor:
    """A dim sky with one bright texel, [6, 32, 32, 3]."""
    base = torch.full((6, 32, 32, 3), 1e-3)
    toward = torch.tensor(
        [math.cos(height) * math.cos(azimuth), math.cos(height) * math.sin(azimuth), math.sin(height)]
    )
    base.view(-1, 3)[(cube_directions(32) @ toward).argmax()] = strength
    return base


@pytest.mark.parametrize("azimuth", [0.5, 0.9])
def test_a_sun_casts_a_shadow_with_an_edge(device: str, azimuth: float) -> None:
    floor = patch((0, 0, 0), (2, 0, 0), (0, 2, 0), 40)
    wall = patch((-1, 0, 0), (0, 2, 0), (0, 0, 1), 40)  # casts its shadow over the floor's half x > -1
    vertices, normals, triangles = (x.to(device) for x in joined(floor, wall))
    base = sun(math.radians(40), math.pi + azimuth).to(device)
    direction = cube_directions(32)[base.cpu().view(-1, 3)[:, 0].argmax()]
    reach = -float(direction[0] / direction[2])  # of the shadow of a wall of height one
    coarse = Transport.trace(vertices, normals, triangles, 8, bounce=False)
    x = vertices[: len(floor[0]), 0].cpu()
    inner = (floor[0][:, 1].abs() < 0.3) & (x > -0.9)
    shaded, sunny = inner & (x < -1 + reach - 0.1), inner & (x > -1 + reach + 0.1)
    assert shaded.sum() > 20 and sunny.sum() > 20
    fine = arriving(coarse.toward(base), base, torch.ones_like(vertices))[: len(floor[0]), 0].cpu()
    full = float(400 * direction[2] * 4 * math.pi / (6 * 32 * 32))  # about, were all texels of one size
    assert float(fine[shaded].max()) < 0.1 * full < 0.5 * full < float(fine[sunny].min())
    blurred = arriving(coarse, base, torch.ones_like(vertices))[: len(floor[0]), 0].cpu()
    # The ray through the middle of the sun's box casts another shadow.
    assert float((blurred - fine).abs()[inner].max()) > 0.5 * full


def test_where_nothing_stands_in_the_way_rays_of_their_own_only_sharpen() -> None:
    vertices, triangles = sphere(12, 24)
    normals = F.normalize(vertices, dim=-1)
    coarse = Transport.trace(vertices, normals, triangles, 8, bounce=False)
    for base, gain in ((sun(0.7, 0.5), 0.02), (latlong_to_cube(studio(32), 32), 1.05)):
        cosines = (normals @ cube_directions(32).T).clamp(min=0)
        exact = cosines @ (cube_solid_angles(32)[:, None] * base.reshape(-1, 3))
        fine = coarse.toward(base)
        before, after, again = (
            float((arriving(way, base, torch.ones_like(vertices)) - exact).abs().mean())
            for way in (coarse, fine, coarse.toward(base.flip(0)).toward(base))
        )
        assert after == again < gain * before and before < 0.1 * float(exact.mean())


def test_the_light_gets_a_gradient_and_the_albedo_none() -> None:
    vertices, normals, triangles = under_a_ceiling()
    transport = Transport.trace(vertices, normals, triangles, 8, bounce=True)
    index = nearest(vertices, (0.0, 0.0, 0.0))
    base = torch.ones(6, LIGHT, LIGHT, 3, requires_grad=True)
    albedo = torch.full_like(vertices, 0.5).requires_grad_()
    # The plain irradiance is held, so that the gradient is that of what arrives.
    share = transport.light_vertices(prefilter(base.detach()), base, albedo)[index, :3]
    share.sum().backward()
    assert albedo.grad is None and base.grad is not None
    zenith, horizon = base.grad[4, 7:9, 7:9].abs().max(), base.grad[0, 7:9, 9:].max()
    assert float(zenith) < 1e-7 < float(horizon)  # straight up there is only the ceiling
    step = torch.zeros_like(base)
    step[0, 7:9, 9:] = 1e-2
    with torch.no_grad():
        moved = transport.light_vertices(prefilter(base.detach()), base + step, albedo)[index, :3].sum()
    assert float(moved - share.detach().sum()) == pytest.approx(float((base.grad * step).sum()), rel=2e-2)


def visible_share(
    transport: Transport, triangles: torch.Tensor, vertex: int, direction: torch.Tensor, r: float
) -> float:
    """Visibility at one vertex."""
    triangle, place = torch.nonzero(triangles == vertex)[0].tolist()
    weights = torch.zeros(1, 3)
    weights[0, place] = 1.0
    return float(
        transport.specular_visibility(
            triangles, torch.tensor([triangle], dtype=torch.int32), weights[:, :2], direction[None], torch.tensor([[r]])
        )
    )


@pytest.mark.parametrize("size", [8, 16])
def test_reflections_see_the_ceiling_where_it_is(size: int) -> None:
    vertices, normals, triangles = under_a_ceiling()
    transport = Transport.trace(vertices, normals, triangles, size, bounce=False)
    index = nearest(vertices, (0.0, 0.0, 0.0))

    def seen(degrees: float, roughness: float) -> float:
        angle = math.radians(degrees)
        return visible_share(
            transport, triangles, index, torch.tensor([math.sin(angle), 0.1, math.cos(angle)]), roughness
        )

    # The ceiling's edge stands at atan(1.5) = 56 degrees.
    assert seen(5, 0.1) == 0 and seen(35, 0.1) == 0
    assert seen(80, 0.1) == 1 and seen(-80, 0.1) == 1
    shares = [round(seen(degrees, 0.1), 5) for degrees in range(30, 84, 3)]
    assert shares == sorted(shares) and any(0 < share < 1 for share in shares)
    # A narrow lobe passes under the edge, a wide one meets it.
    wide = [round(seen(72, r), 5) for r in (0.1, 0.5, 0.8, 1.0)]
    assert wide == sorted(wide, reverse=True) and 1 == wide[0] > wide[-1] > 0.5


def test_local_light_is_glow_where_the_environment_is_hidden() -> None:
    vertices, normals, triangles = under_a_ceiling()
    transport = Transport.trace(vertices, normals, triangles, 8, bounce=True)
    base = latlong_to_cube(studio(32), LIGHT)
    light = prefilter(base)
    shares = transport.light_vertices(light, base, torch.full_like(vertices, 0.7))
    # Looks down through the slit at the floor's middle, from +x.
    pose = torch.tensor([[0.0, -0.3, 0.954, 3.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.954, 0.3, 0.6], [0.0, 0.0, 0.0, 1.0]])
    matrices = world_to_clip(pose[None], torch.tensor([[40.0, 40.0, 16.0, 16.0]]), (32, 32), 0.01)
    fragments = Fragments.of(vertices, triangles, matrices, pose[None, :3, 3], (32, 32))
    local = LocalLight.at(fragments, transport, light, shares)
    positions = fragments.interpolate(vertices)
    middle = int((positions - torch.tensor([0.5, 0.0, 0.0])).norm(dim=-1).argmin())
    assert positions[middle].norm() < 0.8 and abs(float(positions[middle, 2])) < 1e-3
    count = len(positions)
    up = torch.tensor([0.0, 0.0, 1.0]).expand(count, 3)
    sharp = torch.full((count, 1), 0.1)
    torch.testing.assert_close(local.radiance(up, sharp)[middle], fragments.interpolate(shares)[middle, 3:])
    outward = torch.tensor([0.98, 0.0, 0.2]).expand(count, 3)
    torch.testing.assert_close(local.radiance(outward, sharp)[middle], light.radiance(outward, sharp)[middle])
    expected = light.irradiance(up) * fragments.interpolate(shares)[:, :3]
    torch.testing.assert_close(local.irradiance(up), expected)
