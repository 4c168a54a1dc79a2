# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's Principled BSDF v2, on Base Color, Metallic, Roughness, IOR 1.5 and Normal.

A mix by Metallic of a metal (GGX, Schlick's Fresnel from the base color to white) and a dielectric (GGX with the exact
Fresnel of IOR 1.5 over a Lambert diffuse that gets what the specular lobe leaves). Both specular lobes carry the energy
of multiple scattering by a factor 1 + Fms·(1 − E)/E with Fms = Fss·E_avg / (1 − Fss·(1 − E_avg)) (Turquin 2019).

`evaluate_bsdf` is the exact reference; `split_sum` is what optimization shades with.
"""

from __future__ import annotations

import functools
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .bsdf_tables import DIELECTRIC_FSS, MIN_ROUGHNESS, bsdf_tables, fresnel_dielectric

_METAL_FSS_WHITE = 1.0 / 21.0  # average of Schlick's (1 − μ)^5 over the hemisphere


class PrefilteredLight(Protocol):
    """What `split_sum` asks of an environment."""

    def radiance(self, directions: Tensor, roughness: Tensor) -> Tensor: ...

    def irradiance(self, normals: Tensor) -> Tensor: ...


@functools.cache
def lookup_table(device: torch.device) -> Tensor:
    """[1, 9, R, M] float32: A, B, K = (1 − E)/E, E_avg, S with multiple scattering, and for metal and dielectric
    t and t, effective roughness twice."""
    tables = bsdf_tables()
    albedo = torch.from_numpy(tables.scale + tables.bias)
    missing = 1.0 / albedo - 1.0
    average = torch.from_numpy(tables.average)[:, None].expand_as(albedo).clamp_max(1.0)
    fms = DIELECTRIC_FSS * average / (1.0 - DIELECTRIC_FSS * (1.0 - average))
    dielectric = torch.from_numpy(tables.dielectric) * (1.0 + fms * missing)
    channels = [torch.from_numpy(tables.scale), torch.from_numpy(tables.bias), missing, average, dielectric]
    channels += [*torch.from_numpy(tables.along_mirror), *torch.from_numpy(tables.effective_roughness)]
    return torch.stack(channels)[None].float().to(device)


def _look_up(mu: Tensor, roughness: Tensor) -> Tensor:
    """Channels [9, P, 1] at μ, r [P, 1]; differentiable."""
    grid = torch.cat((2.0 * mu.sqrt() - 1.0, 2.0 * roughness - 1.0), -1)[None, None]  # [1, 1, P, 2]
    table = lookup_table(mu.device)
    return F.grid_sample(table, grid, padding_mode="border", align_corners=True)[0, :, 0, :, None]


def metal_multiscatter(base_color: Tensor, missing: Tensor, average: Tensor) -> Tensor:
    """Factor 1 + Fms·(1 − E)/E on a metal lobe [P, 3], with missing = (1 − E)/E and average = E_avg [P, 1]."""
    fss = base_color * (1.0 - _METAL_FSS_WHITE) + _METAL_FSS_WHITE
    return 1.0 + fss * average * missing / (1.0 - fss * (1.0 - average))


def split_sum(
    base_color: Tensor,
    roughness: Tensor,
    metallic: Tensor,
    normal: Tensor,
    view: Tensor,
    environment: PrefilteredLight,
    diffuse_irradiance: Tensor | None = None,
    specular_occlusion: Tensor | None = None,
) -> Tensor:
    """Outgoing radiance [P, 3], linear, of points under a distant light; differentiable in everything.

    Each lobe's integral is split in its albedo and the light's mean over a lobe of the same mean direction and width
    around that direction (Karis 2013, with the direction and width matched at every angle instead of at the mirror's).

    Args:
        base_color: [P, 3] linear 0..1.
        roughness: [P, 1] 0..1.
        metallic: [P, 1] 0..1.
        normal: [P, 3] unit, on the viewer's side.
        view: [P, 3] unit, from the point to the eye.
        environment: prefiltered light.
        diffuse_irradiance: [P, 3] irradiance ∫ V·L·cosθ dω to use in place of the environment's own.
        specular_occlusion: [P, 1] share of the specular lobe that sees the light.
    """
    cos = (normal * view).sum(-1, keepdim=True)  # [P, 1]
    mu = cos.clamp(1e-4, 1.0)
    channels = _look_up(mu, roughness)
    scale, bias, missing, average, dielectric = channels[:5]  # [P, 1] each
    along, width = torch.lerp(channels[6::2], channels[5::2], metallic)
    irradiance = environment.irradiance(normal) if diffuse_irradiance is None else diffuse_irradiance
    # n + t·(r − n) with r = 2 μ n − v
    direction = normal * (1.0 - along + 2.0 * along * mu) - along * view
    radiance = environment.radiance(direction, width)
    if specular_occlusion is not None:
        radiance = radiance * specular_occlusion
    opaque = 1.0 - metallic
    metal = (base_color * scale + bias) * metal_multiscatter(base_color, missing, average)
    diffuse = base_color * irradiance * (opaque * (1.0 - dielectric) * (1.0 / torch.pi))
    return diffuse + (metallic * metal + opaque * dielectric) * radiance


def evaluate_bsdf(
    base_color: Tensor, metallic: Tensor, roughness: Tensor, normal: Tensor, view: Tensor, light: Tensor
) -> Tensor:
    """f·cosθ [..., 3] toward `view` of light from `light`: the exact reference, differentiable.

    Args:
        base_color: [..., 3] linear; metallic, roughness: [..., 1]; all broadcast.
        normal, view, light: [..., 3] unit vectors away from the surface.
    """
    cos_v = (normal * view).sum(-1, keepdim=True)
    cos_l = (normal * light).sum(-1, keepdim=True)
    lit = (cos_l > 0) & (cos_v > 0)
    mu, cos = cos_v.clamp_min(1e-4), cos_l.clamp_min(1e-4)
    alpha2 = roughness.clamp_min(MIN_ROUGHNESS).pow(4)
    half = F.normalize(view + light, dim=-1)
    cos_h = (normal * half).sum(-1, keepdim=True)
    cos_d = (view * half).sum(-1, keepdim=True).clamp(0.0, 1.0)
    # |n × h|² + α² (n·h)² = 1 + (α² − 1)(n·h)² without cancellation near the peak.
    sin2_h = torch.linalg.cross(normal.expand_as(half), half).square().sum(-1, keepdim=True)
    distribution = alpha2 / (torch.pi * (sin2_h + alpha2 * cos_h.square()).square())
    lambda_v = 0.5 * ((1.0 + alpha2 * (1.0 / mu.square() - 1.0).clamp_min(0.0)).sqrt() - 1.0)
    lambda_l = 0.5 * ((1.0 + alpha2 * (1.0 / cos.square() - 1.0).clamp_min(0.0)).sqrt() - 1.0)
    lobe = distribution / ((1.0 + lambda_v + lambda_l) * 4.0 * mu)  # D·G/(4 μ), the cosine cancels

    schlick = (1.0 - cos_d).pow(5)
    shape = torch.broadcast_shapes(mu.shape, roughness.shape)
    channels = _look_up(mu.expand(shape).reshape(-1, 1).clamp_max(1.0), roughness.expand(shape).reshape(-1, 1))
    missing, average, albedo = channels[2:5].reshape(3, *shape)
    fms = DIELECTRIC_FSS * average / (1.0 - DIELECTRIC_FSS * (1.0 - average))
    metal = (base_color + (1.0 - base_color) * schlick) * metal_multiscatter(base_color, missing, average)
    dielectric = fresnel_dielectric(cos_d) * (1.0 + fms * missing)
    diffuse = base_color * (1.0 - albedo) * (cos / torch.pi)
    value = metallic * metal * lobe + (1.0 - metallic) * (dielectric * lobe + diffuse)
    return torch.where(lit, value, torch.zeros_like(value))
