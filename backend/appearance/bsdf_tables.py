# SPDX-License-Identifier: GPL-3.0-or-later
"""Directional integrals of the Principled lobes over the hemisphere, by numerical integration.

GGX with height-correlated Smith shadowing (Heitz 2014) is integrated with samples of its visible normals
(Heitz 2018) on a fixed lattice, once per process. μ = n·v, r = roughness, α = r².

    A(μ, r), B(μ, r)   Schlick scale and bias: albedo of the lobe with F = f0 + (1 − f0)(1 − v·h)^5 is f0·A + B
    E(μ, r) = A + B    albedo with F = 1;  E_avg(r) = 2 ∫ E μ dμ
    S(μ, r)            albedo with the exact dielectric Fresnel of IOR 1.5
    m(μ, r)            mean direction of the lobe with F = 1: where it points and how wide it is
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

IOR = 1.5
DIELECTRIC_F0 = ((IOR - 1.0) / (IOR + 1.0)) ** 2  # 0.04
# Average dielectric Fresnel 2 ∫ F μ dμ as Cycles approximates it (Kulla and Conty 2017), 0.0895 for IOR 1.5.
DIELECTRIC_FSS = (IOR - 1.0) / (4.08567 + 1.00071 * IOR)

MIN_ROUGHNESS = 0.02
SIZE_MU = 48
SIZE_ROUGHNESS = 32
_SAMPLES = 1597  # a Fibonacci number: the lattice then covers the square evenly

Array = np.ndarray


@dataclass(frozen=True)
class BsdfTables:
    """Float64 tables over μ = mu[j] (quadratically spaced, dense at grazing) and r = roughness[i]."""

    mu: Array  # [M]
    roughness: Array  # [R]
    scale: Array  # [R, M] A
    bias: Array  # [R, M] B
    dielectric: Array  # [R, M] S, single scattering
    average: Array  # [R] E_avg
    lobe_along_mirror: Array  # [R, M] t: the lobe's mean direction is parallel to n + t·(r − n)
    lobe_length: Array  # [R, M] |m|, length of the mean direction: 1 for a mirror


def fresnel_dielectric(cos_i: Tensor) -> Tensor:
    """Exact unpolarised reflectance of a dielectric of IOR 1.5 seen from outside; any shape."""
    g = (IOR * IOR - 1.0 + cos_i * cos_i).sqrt()
    a = (g - cos_i) / (g + cos_i)
    b = (cos_i * (g + cos_i) - 1.0) / (cos_i * (g - cos_i) + 1.0)
    return 0.5 * a * a * (1.0 + b * b)


def _integrate_lobe(mu: Tensor, roughness: Tensor, samples: int) -> tuple[Tensor, ...]:
    """Integrals over visible normals for broadcastable mu, roughness [..., 1]; returns tensors [...]."""
    alpha = roughness.square()
    # Golden-ratio lattice: unlike a product grid it has no rows for the horizon to fall between.
    index = torch.arange(samples, dtype=torch.float64)
    u1 = ((index + 0.5) / samples).to(mu.dtype)
    u2 = ((index * 0.6180339887498949) % 1.0).to(mu.dtype)
    # Half a turn is enough: the lobe is symmetric about the plane of incidence.
    phi = torch.pi * (u2 - 0.5)

    # View in the x-z plane, stretched to the unit-roughness configuration.
    sin_v = (1.0 - mu * mu).clamp_min(0.0).sqrt()
    stretched_x, stretched_z = alpha * sin_v, mu
    length = (stretched_x.square() + stretched_z.square()).sqrt()
    vx, vz = stretched_x / length, stretched_z / length
    # Disk sample (t1 across, t2 along the plane of incidence), squeezed to the visible half.
    radius = u1.sqrt()
    t1, t2 = radius * phi.cos(), radius * phi.sin()
    s = 0.5 * (1.0 + vz)
    t2 = (1.0 - s) * (1.0 - t1.square()).sqrt() + s * t2
    t3 = (1.0 - t1.square() - t2.square()).clamp_min(0.0).sqrt()
    # Tangent frame: T1 = y, T2 = V × T1 = (−vz, 0, vx).
    hx, hy, hz = alpha * (t3 * vx - t2 * vz), alpha * t1, t3 * vz + t2 * vx
    norm = (hx.square() + hy.square() + hz.square()).sqrt()
    hx, hz = hx / norm, hz / norm
    cos_d = (sin_v * hx + mu * hz).clamp(0.0, 1.0)
    lx, lz = 2.0 * cos_d * hx - sin_v, 2.0 * cos_d * hz - mu
    above = lz > 0.0
    cos_l = lz.clamp_min(1e-9)
    lambda_v = _smith_lambda(mu, alpha)
    lambda_l = _smith_lambda(cos_l, alpha)
    weight = torch.where(above, (1.0 + lambda_v) / (1.0 + lambda_v + lambda_l), torch.zeros(()))  # G2 / G1

    schlick = (1.0 - cos_d) ** 5
    total = weight.mean(-1)
    bias = (weight * schlick).mean(-1)
    dielectric = (weight * fresnel_dielectric(cos_d)).mean(-1)
    return total, bias, dielectric, (weight * lx).mean(-1), (weight * lz).mean(-1)


def _smith_lambda(cos: Tensor, alpha: Tensor) -> Tensor:
    tan2 = 1.0 / cos.square() - 1.0
    return 0.5 * ((1.0 + alpha.square() * tan2.clamp_min(0.0)).sqrt() - 1.0)


@functools.cache
def bsdf_tables() -> BsdfTables:
    """The tables, integrated on first use."""
    x = torch.linspace(0.0, 1.0, SIZE_MU, dtype=torch.float64)
    mu = (x * x).clamp(1e-4, 1.0 - 1e-6)  # [M]
    roughness = torch.linspace(0.0, 1.0, SIZE_ROUGHNESS, dtype=torch.float64).clamp_min(MIN_ROUGHNESS)
    total, bias, dielectric, mean_x, mean_z = _integrate_lobe(
        mu.float()[None, :, None], roughness.float()[:, None, None], _SAMPLES
    )
    total, bias, dielectric, mean_x, mean_z = (t.double() for t in (total, bias, dielectric, mean_x, mean_z))
    # E_avg by the trapezoid rule on the quadratic grid, dμ = 2 x dx.
    average = torch.trapezoid(2.0 * total * mu * 2.0 * x, x, dim=-1)
    # m = a·n + b·r with r = (−sin_v, μ): b from the tangential part, then a; t = b / (a + b).
    sin_v = (1.0 - mu * mu).sqrt()
    b = -mean_x / sin_v
    a = mean_z - b * mu
    along = b / (a + b)
    along[:, -1] = along[:, -2]  # n and r coincide at normal incidence; take the limit
    length = (mean_x.square() + mean_z.square()).sqrt() / total
    arrays = (mu, roughness, total - bias, bias, dielectric, average, along, length)
    return BsdfTables(*(t.numpy() for t in arrays))
