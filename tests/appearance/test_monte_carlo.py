# SPDX-License-Identifier: GPL-3.0-or-later
import math

import torch

from backend.appearance.bsdf import evaluate_bsdf
from backend.appearance.environment import sample_latlong
from backend.appearance.monte_carlo import shade_monte_carlo, tangent_frame
from tests.appearance.scenes import random_points, studio


def quadrature(points: tuple[torch.Tensor, ...], image: torch.Tensor, rings: int) -> torch.Tensor:
    """The same integral over equal solid angles of the whole sphere."""
    base, roughness, metallic, normal, view = points
    z = 1.0 - 2.0 * (torch.arange(rings) + 0.5) / rings
    phi = 2 * math.pi * (torch.arange(2 * rings) + 0.5) / (2 * rings)
    z, phi = (t.reshape(-1) for t in torch.meshgrid(z, phi, indexing="ij"))
    radius = (1 - z * z).sqrt()
    light = torch.stack((radius * phi.cos(), radius * phi.sin(), z), -1)
    value = evaluate_bsdf(base[:, None], metallic[:, None], roughness[:, None], normal[:, None], view[:, None], light)
    return (value * sample_latlong(image, light)).sum(1) * (4 * math.pi / len(light))


def test_frame_is_a_rotation() -> None:
    normal = random_points(100)[3]
    frame = tangent_frame(normal)
    torch.testing.assert_close(frame @ frame.transpose(1, 2), torch.eye(3).expand(100, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(frame) > 0.99).all()


def test_matches_quadrature() -> None:
    image = studio()
    base, roughness, metallic, normal, view = random_points(40)
    points = (base, roughness.clamp_min(0.3), metallic, normal, view)
    exact = quadrature(points, image, 160)
    ours = shade_monte_carlo(*points, lambda d: sample_latlong(image, d), 1024, torch.Generator().manual_seed(0))
    assert (ours - exact).abs().mean() / exact.mean() < 0.01


def test_visibility_masks_the_light() -> None:
    points = random_points(20)
    above = shade_monte_carlo(
        *points,
        lambda d: torch.ones_like(d),
        64,
        torch.Generator().manual_seed(0),
        lambda d: (d[..., 2:] > 0).float(),
    )
    below = shade_monte_carlo(
        *points,
        lambda d: torch.ones_like(d),
        64,
        torch.Generator().manual_seed(0),
        lambda d: (d[..., 2:] <= 0).float(),
    )
    whole = shade_monte_carlo(*points, lambda d: torch.ones_like(d), 64, torch.Generator().manual_seed(0))
    torch.testing.assert_close(above + below, whole)


def test_gradient_matches_that_of_the_quadrature() -> None:
    image = studio()
    base, roughness, metallic, normal, view = random_points(20, seed=3)
    roughness = roughness.clamp_min(0.4)
    gradients = []
    for shade in (
        lambda *p: quadrature(p, image, 120),
        lambda *p: shade_monte_carlo(*p, lambda d: sample_latlong(image, d), 2048, torch.Generator().manual_seed(0)),
    ):
        inputs = [t.clone().requires_grad_() for t in (base, roughness, metallic)]
        gradients.append(torch.autograd.grad(shade(*inputs, normal, view).sum(), inputs))
    for exact, ours in zip(*gradients):
        assert (exact - ours).abs().mean() < 0.03 * exact.abs().mean()
