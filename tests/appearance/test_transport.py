# SPDX-License-Identifier: GPL-3.0-or-later
"""Shadows and the bounce: against form factors, in shapes whose light is known, and as linear maps of the light."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from backend.appearance.cube_map import cube_directions, cube_solid_angles
from backend.appearance.environment import Prefiltered, latlong_to_cube, prefilter
from backend.appearance.transport import Transport
from tests.appearance.scenes import Mesh, corner, joined, nearest, patch, studio, under_a_ceiling
from tests.kernels.scenes import sphere

LIGHT = 16  # texels along a face of the environment


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
    return transport.light_vertices(light, base, base_color).share * light.irradiance(transport.normals)


@pytest.mark.parametrize(("size", "tolerance"), [(8, 0.06), (32, 0.015)])
@pytest.mark.parametrize("x", [0.0, 0.5, 1.0])
def test_the_share_under_a_ceiling_is_what_its_form_factor_leaves(
    device: str, size: int, tolerance: float, x: float
) -> None:
    vertices, normals, triangles = under_a_ceiling()
    transport = Transport.trace(vertices.to(device), normals.to(device), triangles.to(device), size, bounce=False)
    base = torch.ones(6, 32, 32, 3, device=device)
    share = transport.light_vertices(prefilter(base), base, torch.ones_like(vertices, device=device)).share.cpu()
    blocked = 2 * form_factor(1.5 - x, 1.5) + 2 * form_factor(1.5 + x, 1.5)
    assert 0.5 < blocked < 0.8
    index = nearest(vertices, (x, 0.0, 0.0))
    assert share[index].tolist() == pytest.approx([1 - blocked] * 3, abs=tolerance)


def test_a_wall_takes_half_of_the_sky_and_only_its_own_half() -> None:
    floor = patch((1, 0, 0), (1, 0, 0), (0, 1, 0), 4)
    wall = patch((-0.05, 0, 20), (0, 40, 0), (0, 0, 20.05), 2)
    vertices, normals, triangles = joined(floor, wall)
    transport = Transport.trace(vertices, normals, triangles, 16, bounce=False)
    index = nearest(vertices, (0.5, 0.0, 0.0))
    base, light = gray()
    share = transport.light_vertices(light, base, torch.ones_like(vertices)).share[index]
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
    for base, tolerance in (
        (torch.ones(6, LIGHT, LIGHT, 3), 0.01),
        (latlong_to_cube(studio(32), LIGHT), 0.06),  # lamps are a few of the cube's texels
    ):
        base = base.to(device)
        share, glow = transport.light_vertices(prefilter(base), base, torch.rand_like(vertices))
        torch.testing.assert_close(share, torch.ones_like(vertices), atol=tolerance, rtol=0)
        assert not glow.any()
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
    for values in transport.light_vertices(light, base, torch.ones_like(vertices)):
        assert float(values.abs().max()) < 1e-3


def test_the_bounces_add_what_the_albedo_reflects() -> None:
    vertices, normals, triangles = corner()
    plain = Transport.trace(vertices, normals, triangles, 16, bounce=False)
    bounced = Transport.trace(vertices, normals, triangles, 16, bounce=True)
    base, light = gray()
    albedo = torch.tensor([0.8, 0.4, 0.0]).expand(len(vertices), 3)
    without = plain.light_vertices(light, base, albedo)
    result = bounced.light_vertices(light, base, albedo)
    added = result.share - without.share
    index = nearest(vertices, (1 / 3, 0.0, 0.0))
    assert float(added[index, 0]) > 0.05
    assert not added[:, 2].any() and not without.glow.any()
    # What is proportional to the albedo is the first bounce, what to its square the second.
    second = (added[:, 0] - 2 * added[:, 1]) / (0.8**2 - 2 * 0.4**2)
    first = (added[:, 0] - 0.8**2 * second) / 0.8
    # What stands in the way of the floor is wall, whose radiance under a sky of one is albedo · its own share.
    on_wall = len(vertices) // 2
    blocked = 1 - float(without.share[index, 0])
    for gain, given in ((first, without.share[:, 0]), (second, first)):
        low, high = float(given[on_wall:].min()), float(given[on_wall:].max())
        assert blocked * low - 0.02 <= float(gain[index]) <= blocked * high + 0.02
    # Nearer the corner more comes back.
    assert float(added[index, 0]) > 2 * float(added[nearest(vertices, (2.0, 0.0, 0.0)), 0])


def bowl(rings: int, segments: int) -> Mesh:
    """Lower half of a unit sphere, facing inward."""
    vertices, triangles = sphere(rings, segments)
    lower = (vertices[triangles.long()][..., 2] < 1e-3).all(1)
    return vertices, -F.normalize(vertices, dim=-1), triangles[lower].flip(1)


def test_a_bowl_is_lit_as_integrating_spheres_are(device: str) -> None:
    """Every point of a sphere sees all parts of it alike: from within a half, half sky and half bowl."""
    vertices, normals, triangles = (x.to(device) for x in bowl(24, 36))
    transport = Transport.trace(vertices, normals, triangles, 16, bounce=True)
    base, albedo = torch.ones(6, LIGHT, LIGHT, 3, device=device), torch.tensor([0.9, 0.45, 0.0], device=device)
    share, glow = transport.light_vertices(prefilter(base), base, albedo.expand(len(vertices), 3))
    inside = vertices[:, 2] < -0.25
    share, glow = share[inside], glow[inside]
    expected = 0.5 * (1 + albedo / 2 + (albedo / 2) ** 2)
    torch.testing.assert_close(share, expected.expand_as(share), atol=0.03, rtol=0)
    assert (share[:, 0] < 0.5 / (1 - 0.9 / 2) - 0.05).all()  # what all bounces together would add up to
    second = (share[:, 0] - 2 * share[:, 1] + share[:, 2]) / (0.9**2 - 2 * 0.45**2)
    torch.testing.assert_close(second, torch.full_like(second, 0.125), atol=0.02, rtol=0)
    # The bowl looks the same from everywhere, in all directions: as light of the sky and of one bounce leaves it.
    seen = 0.5 * albedo * (1 + albedo / 2)
    torch.testing.assert_close(glow, seen.expand_as(glow), atol=0.03, rtol=0)


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
    share = transport.light_vertices(prefilter(base.detach()), base, albedo).share[index]
    share.sum().backward()
    assert albedo.grad is None and base.grad is not None
    zenith, horizon = base.grad[4, 7:9, 7:9].abs().max(), base.grad[0, 7:9, 9:].max()
    assert float(zenith) < 1e-7 < float(horizon)  # straight up there is only the ceiling
    step = torch.zeros_like(base)
    step[0, 7:9, 9:] = 1e-2
    with torch.no_grad():
        moved = transport.light_vertices(prefilter(base.detach()), base + step, albedo).share[index].sum()
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
