# SPDX-License-Identifier: GPL-3.0-or-later
import math

import torch
import torch.nn.functional as F

from backend.appearance.bsdf import split_sum
from backend.appearance.cube_map import cube_directions, cube_solid_angles
from backend.appearance.environment import EnvironmentLight, latlong_directions, prefilter
from backend.appearance.spherical_harmonics import SphericalHarmonicsLight, sh_basis
from tests.appearance.scenes import random_points, studio


def test_basis_is_orthonormal() -> None:
    basis = sh_basis(cube_directions(32))
    gram = basis.t() @ (basis * cube_solid_angles(32)[:, None])
    torch.testing.assert_close(gram, torch.eye(9), atol=2e-3, rtol=0)


def test_light_of_two_bands_is_held_and_filtered_exactly() -> None:
    light = SphericalHarmonicsLight()
    with torch.no_grad():
        light.coefficients[1:] = 0.1 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    cube = (sh_basis(cube_directions(16)) @ light.coefficients.detach()).reshape(6, 16, 16, 3)
    other = SphericalHarmonicsLight()
    other.from_cube(cube)
    torch.testing.assert_close(other.coefficients, light.coefficients, atol=0.01, rtol=0)
    filtered = prefilter(cube)
    axes = F.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    torch.testing.assert_close(light.irradiance(axes), filtered.irradiance(axes), rtol=0.01, atol=0.01)
    for roughness in (0.3, 0.6, 1.0):
        rough = torch.full((200, 1), roughness)
        torch.testing.assert_close(light.radiance(axes, rough), filtered.radiance(axes, rough), rtol=0.02, atol=0.01)


def test_irradiance_of_a_real_light() -> None:
    """Order 2 holds irradiance to a few percent (Ramamoorthi and Hanrahan 2001)."""
    environment = EnvironmentLight(16)
    environment.from_latlong(studio())
    light = SphericalHarmonicsLight()
    light.from_cube(environment.base().detach())
    axes = F.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    exact = environment.prefilter().irradiance(axes)
    assert (light.irradiance(axes) - exact).abs().mean() / exact.mean() < 0.04


def test_shades_and_has_gradients() -> None:
    points = random_points(100)
    light = SphericalHarmonicsLight(0.7)
    white = split_sum(torch.ones(100, 3), *points[1:], light.prefilter())
    torch.testing.assert_close(white, torch.full((100, 3), 0.7), atol=3e-3, rtol=0)
    white.sum().backward()
    assert light.coefficients.grad is not None and torch.isfinite(light.coefficients.grad).all()
    image = light.to_latlong(8)
    assert image.shape == latlong_directions(8).shape and abs(image.mean().item() - 0.7) < 1e-5
    assert light.neutrality_loss().item() < 1e-6 and math.isfinite(image.sum().item())
