# SPDX-License-Identifier: GPL-3.0-or-later
"""Unbiased shading: the exact BSDF integrated over a distant light by importance sampling.

Each point draws as many directions from the visible normals of GGX (Heitz 2018) as from the cosine, combined by the
balance heuristic (Veach and Guibas 1995). Directions carry no gradient: the integrand is differentiated at fixed
samples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .bsdf import evaluate_bsdf
from .bsdf_tables import MIN_ROUGHNESS


def shade_monte_carlo(
    base_color: Tensor,
    roughness: Tensor,
    metallic: Tensor,
    normal: Tensor,
    view: Tensor,
    radiance: Callable[[Tensor], Tensor],
    samples: int,
    generator: torch.Generator | None = None,
    visibility: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Outgoing radiance [P, 3], linear, estimated with 2·`samples` directions a point.

    Args:
        base_color, roughness, metallic, normal, view: as for `bsdf.split_sum`.
        radiance: light from world directions [P·S, 3] -> [P·S, 3]; differentiable if its gradient is wanted.
        samples: directions per strategy.
        generator: source of randomness on the device of the points; stratified within a point.
        visibility: [P, S, 3] directions -> [P, S, 1] share of the light that arrives, for instance traced shadows.
    """
    with torch.no_grad():
        frame = tangent_frame(normal)  # [P, 3, 3]
        local_view = torch.einsum("pki,pi->pk", frame, view)
        local_view[:, 2].clamp_min_(1e-4)
        alpha = roughness.clamp_min(MIN_ROUGHNESS).square()
        u = _stratified(len(normal), 2 * samples, normal.device, generator)  # [P, 2 S, 2]
        half = _visible_normals(local_view, alpha, u[:, :samples])
        mirrored = 2.0 * (local_view[:, None] * half).sum(-1, keepdim=True) * half - local_view[:, None]
        local = torch.cat((mirrored, _cosine_directions(u[:, samples:])), 1)  # [P, 2 S, 3]
        density = 0.5 * (_visible_normal_density(local_view, local, alpha) + local[..., 2:].clamp_min(0.0) / torch.pi)
        directions = torch.einsum("pki,psk->psi", frame, local)  # [P, 2 S, 3]
    value = evaluate_bsdf(
        base_color[:, None], metallic[:, None], roughness[:, None], normal[:, None], view[:, None], directions
    )
    light = radiance(directions.reshape(-1, 3)).reshape(directions.shape)
    if visibility is not None:
        light = light * visibility(directions)
    weight = torch.where(density > 0, 1.0 / density.clamp_min(1e-20), torch.zeros_like(density))
    return (value * light * weight).mean(1)


def tangent_frame(normal: Tensor) -> Tensor:
    """Rows tangent, bitangent, normal [P, 3, 3] of a rotation from world to local (Duff et al. 2017)."""
    x, y, z = normal.unbind(-1)
    sign = torch.where(z >= 0, 1.0, -1.0)
    a = -1.0 / (sign + z)
    b = x * y * a
    tangent = torch.stack((1.0 + sign * x * x * a, sign * b, -sign * x), -1)
    bitangent = torch.stack((b, sign + y * y * a, -y), -1)
    return torch.stack((tangent, bitangent, normal), 1)


def _stratified(points: int, samples: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """[P, S, 2] in [0, 1): a golden-ratio lattice for each half of the samples, shifted at random for each point."""
    half = samples // 2
    index = torch.arange(half, device=device, dtype=torch.float64)
    lattice = torch.stack((index / half, (index * 0.6180339887498949) % 1.0), -1).float()
    shift = torch.rand(points, 2, 1, 2, device=device, generator=generator)
    return ((lattice + shift) % 1.0).reshape(points, samples, 2)


def _cosine_directions(u: Tensor) -> Tensor:
    radius, phi = u[..., 0].sqrt(), 2.0 * torch.pi * u[..., 1]
    return torch.stack((radius * phi.cos(), radius * phi.sin(), (1.0 - u[..., 0]).clamp_min(0.0).sqrt()), -1)


def _visible_normals(view: Tensor, alpha: Tensor, u: Tensor) -> Tensor:
    """Half vectors [P, S, 3] in the local frame, from view [P, 3], alpha [P, 1], u [P, S, 2]."""
    stretched = F.normalize(torch.cat((alpha * view[:, :2], view[:, 2:]), -1), dim=-1)
    frame = tangent_frame(stretched)
    radius, phi = u[..., 0].sqrt(), 2.0 * torch.pi * u[..., 1]
    t1, t2 = radius * phi.cos(), radius * phi.sin()
    # The frame's tangents are arbitrary, so squeeze along the one in the plane of incidence.
    up = torch.tensor([0.0, 0.0, 1.0], device=view.device).expand_as(stretched)
    across = torch.linalg.cross(up, stretched)
    across = torch.where(across.norm(dim=-1, keepdim=True) > 1e-6, F.normalize(across, dim=-1), frame[:, 0])
    along = torch.linalg.cross(stretched, across)
    s = 0.5 * (1.0 + stretched[:, None, 2])
    t2 = (1.0 - s) * (1.0 - t1.square()).clamp_min(0.0).sqrt() + s * t2
    t3 = (1.0 - t1.square() - t2.square()).clamp_min(0.0).sqrt()
    half = t1[..., None] * across[:, None] + t2[..., None] * along[:, None] + t3[..., None] * stretched[:, None]
    half = torch.cat((alpha[:, None] * half[..., :2], half[..., 2:].clamp_min(1e-7)), -1)
    return F.normalize(half, dim=-1)


def _visible_normal_density(view: Tensor, light: Tensor, alpha: Tensor) -> Tensor:
    """Density by solid angle [P, S, 1] of mirroring the view at visible normals: G1·D / (4 n·v)."""
    alpha2 = alpha.square()[:, None]  # [P, 1, 1]
    half = F.normalize(view[:, None] + light, dim=-1)
    sin2 = half[..., :2].square().sum(-1, keepdim=True)
    distribution = alpha2 / (torch.pi * (sin2 + alpha2 * half[..., 2:].square()).square())
    mu = view[:, None, 2:]
    lambda_v = 0.5 * ((1.0 + alpha2 * (1.0 / mu.square() - 1.0).clamp_min(0.0)).sqrt() - 1.0)
    density = distribution / ((1.0 + lambda_v) * 4.0 * mu)
    return torch.where(light[..., 2:] > 0, density, torch.zeros_like(density))
