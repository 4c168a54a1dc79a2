# SPDX-License-Identifier: GPL-3.0-or-later
import math

import torch
import torch.nn.functional as F

from backend.appearance.bsdf import evaluate_bsdf, split_sum
from backend.appearance.bsdf_tables import DIELECTRIC_F0, bsdf_tables, fresnel_dielectric
from backend.appearance.environment import EnvironmentLight, sample_latlong
from backend.appearance.monte_carlo import shade_monte_carlo
from tests.appearance.scenes import random_points, sphere_points, studio


def hemisphere(rings: int, sectors: int) -> tuple[torch.Tensor, float]:
    """Directions [N, 3] about +z of equal solid angle, and that solid angle."""
    z = (torch.arange(rings, dtype=torch.float64) + 0.5) / rings
    phi = 2 * math.pi * (torch.arange(sectors, dtype=torch.float64) + 0.5) / sectors
    z, phi = (t.reshape(-1) for t in torch.meshgrid(z, phi, indexing="ij"))
    radius = (1 - z * z).sqrt()
    return torch.stack((radius * phi.cos(), radius * phi.sin(), z), -1).float(), 2 * math.pi / (rings * sectors)


def view_at(mu: float) -> torch.Tensor:
    return torch.tensor([[math.sqrt(1 - mu * mu), 0.0, mu]])


def test_dielectric_fresnel_at_normal_and_grazing() -> None:
    torch.testing.assert_close(fresnel_dielectric(torch.tensor([1.0, 0.0])), torch.tensor([DIELECTRIC_F0, 1.0]))


def test_tables_match_brute_force_quadrature() -> None:
    """Albedo of a white metal without its multiple scattering is E; S is that of a black dielectric."""
    tables = bsdf_tables()
    light, solid_angle = hemisphere(400, 400)
    normal = torch.tensor([[0.0, 0.0, 1.0]])
    for i in (12, 20, 31):
        for j in (15, 30, 47):
            mu, roughness = float(tables.mu[j]), torch.tensor([[tables.roughness[i]]]).float()
            albedo = float(tables.scale[i, j] + tables.bias[i, j])
            white = evaluate_bsdf(torch.ones(1, 3), torch.ones(1, 1), roughness, normal, view_at(mu), light)
            # the exact lobe with energy preserved reflects everything
            assert abs(float(white[:, 0].sum()) * solid_angle - 1.0) < 0.01
            black = evaluate_bsdf(torch.zeros(1, 3), torch.zeros(1, 1), roughness, normal, view_at(mu), light)
            single = float(black[:, 0].sum()) * solid_angle
            fss, average = 0.0895, float(tables.average[i])
            factor = 1 + fss * average / (1 - fss * (1 - average)) * (1 - albedo) / albedo
            assert abs(single / factor - tables.dielectric[i, j]) < 0.01 * tables.dielectric[i, j] + 2e-4


def test_white_furnace() -> None:
    """White under even light stays white, in the exact BSDF and in the split sum."""
    _, roughness, metallic, normal, view = random_points(500)
    light = EnvironmentLight(8, 0.7).prefilter()
    color = split_sum(torch.ones(500, 3), roughness, metallic, normal, view, light)
    torch.testing.assert_close(color, torch.full((500, 3), 0.7), atol=2e-3, rtol=0)
    exact = shade_monte_carlo(
        torch.ones(500, 3), roughness, metallic, normal, view, lambda d: torch.full_like(d, 0.7), 256
    )
    assert (exact.mean() - 0.7).abs() < 2e-3


def test_reciprocal_specular_lobe() -> None:
    """Without diffuse and multiple scattering f is symmetric: at low roughness both are negligible for a metal."""
    base, _, _, normal, view = random_points(200)
    light = F.normalize(
        normal + 0.8 * F.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(3)), dim=-1), dim=-1
    )
    one, rough = torch.ones(200, 1), torch.full((200, 1), 0.15)
    there = evaluate_bsdf(base, one, rough, normal, view, light) / (normal * light).sum(-1, keepdim=True)
    back = evaluate_bsdf(base, one, rough, normal, light, view) / (normal * view).sum(-1, keepdim=True)
    torch.testing.assert_close(there, back, rtol=0.02, atol=1e-6)


def test_nothing_below_the_horizon() -> None:
    base, roughness, metallic, normal, view = random_points(50)
    assert not evaluate_bsdf(base, metallic, roughness, normal, view, -normal).any()
    assert not evaluate_bsdf(base, metallic, roughness, normal, -view, normal).any()


def finite_differences(function, tensor: torch.Tensor, direction: torch.Tensor, step: float) -> float:
    with torch.no_grad():
        return float((function(tensor + step * direction) - function(tensor - step * direction)).double() / (2 * step))


def test_gradients_of_the_exact_bsdf() -> None:
    base, roughness, metallic, normal, view = random_points(40, seed=1)
    roughness = roughness.clamp_min(0.3)
    generator = torch.Generator().manual_seed(5)
    light = F.normalize(normal + 0.6 * F.normalize(torch.randn(40, 3, generator=generator), dim=-1), dim=-1)
    inputs = [base, metallic, roughness, normal, view, light]
    for k in range(len(inputs)):

        def total(x: torch.Tensor, k: int = k) -> torch.Tensor:
            return evaluate_bsdf(*inputs[:k], x, *inputs[k + 1 :]).sum()

        x = inputs[k].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(total(x), x)
        direction = torch.randn(x.shape, generator=generator)
        analytic = float((gradient * direction).sum())
        # The tables are bilinear: a step over one of their nodes costs a little.
        assert abs(analytic - finite_differences(total, inputs[k], direction, 1e-3)) < 0.02 * abs(analytic) + 0.02


def test_gradients_of_the_split_sum() -> None:
    base, roughness, metallic, normal, view = random_points(300, seed=2, grazing=0.3)
    environment = EnvironmentLight(8)
    environment.from_latlong(studio())
    light = environment.prefilter()
    generator = torch.Generator().manual_seed(6)
    inputs = [base, roughness, metallic, normal, view]
    weights = torch.rand(300, 3, generator=generator)
    for k in range(len(inputs)):

        def total(x: torch.Tensor, k: int = k) -> torch.Tensor:
            return (weights * split_sum(*inputs[:k], x, *inputs[k + 1 :], light)).sum()

        x = inputs[k].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(total(x), x)
        # Along the sign of the gradient nothing cancels.
        direction = gradient.sign() / gradient.numel() ** 0.5
        analytic = float((gradient * direction).sum())
        assert abs(analytic - finite_differences(total, inputs[k], direction, 2e-2)) < 0.03 * abs(analytic)


def test_gradient_reaches_the_environment() -> None:
    points = random_points(300, seed=4)
    environment = EnvironmentLight(8)
    environment.from_latlong(studio())

    def total(log_radiance: torch.Tensor) -> torch.Tensor:
        environment.log_radiance = torch.nn.Parameter(log_radiance)
        return split_sum(*points, environment.prefilter()).sum()

    start = environment.log_radiance.detach().clone()
    result = total(start)
    parameter = environment.log_radiance
    (gradient,) = torch.autograd.grad(result, parameter)
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(7))
    analytic = float((gradient * direction).sum())
    assert abs(analytic - finite_differences(total, start, direction, 1e-2)) < 0.01 * abs(analytic) + 0.05


def test_occlusion_and_given_irradiance() -> None:
    points = random_points(20)
    light = EnvironmentLight(8, 0.5).prefilter()
    dark = split_sum(*points, light, torch.zeros(20, 3), torch.zeros(20, 1))
    assert not dark.any()
    plain = split_sum(*points, light)
    given = split_sum(*points, light, light.irradiance(points[3]), torch.ones(20, 1))
    torch.testing.assert_close(plain, given)


def test_split_sum_error_against_exact_is_bounded() -> None:
    """Mean error over a sphere under a studio light, relative to its mean radiance; measured: at most 4 %."""
    image = studio()
    environment = EnvironmentLight(32)
    environment.from_latlong(image)
    light = environment.prefilter()
    _, normal, view = sphere_points(16)
    count = len(normal)
    generator = torch.Generator().manual_seed(0)
    for metallic in (0.0, 1.0):
        for roughness in (0.1, 0.3, 0.5, 0.75, 1.0):
            base = torch.tensor([0.05, 0.3, 0.9]).expand(count, 3)
            inputs = (base, torch.full((count, 1), roughness), torch.full((count, 1), metallic), normal, view)
            exact = shade_monte_carlo(*inputs, lambda d: sample_latlong(image, d), 256, generator)
            error = (split_sum(*inputs, light) - exact).abs().mean() / exact.mean()
            assert error < (0.05 if metallic else 0.03), (metallic, roughness, float(error))
