# SPDX-License-Identifier: GPL-3.0-or-later
"""Directional integrals of the Principled lobes over the hemisphere, by numerical integration.

GGX with height-correlated Smith shadowing (Heitz 2014) is integrated with samples of its visible normals
(Heitz 2018) on a fixed lattice, once per process. μ = n·v, r = roughness, α = r².

    A(μ, r), B(μ, r)   Schlick scale and bias: albedo of the lobe with F = f0 + (1 − f0)(1 − v·h)^5 is f0·A + B
    E(μ, r) = A + B    albedo with F = 1;  E_avg(r) = 2 ∫ E μ dμ
    S(μ, r)            albedo with the exact dielectric Fresnel of IOR 1.5
    m(μ, r)            mean direction under lobe^1.5: where the lobe points and how wide it is, for metal (F = 1) and
                       dielectric. The plain mean follows the tail too far from the peak; the power 1.5 gave the least
                       error of split-sum shading under smooth skies and under a sun alike.
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
    along_mirror: (
        Array  # [2, R, M] t for metal, dielectric: the lobe points along n + t·(r − n), r the mirror direction
    )
    effective_roughness: Array  # [2, R, M] roughness whose lobe at normal incidence is as wide


def fresnel_dielectric(cos_i: Tensor) -> Tensor:
    """Exact unpolarised reflectance of a dielectric of IOR 1.5 seen from outside; any shape."""
    g = (IOR * IOR - 1.0 + cos_i * cos_i).sqrt()
    a = (g - cos_i) / (g + cos_i)
    b = (cos_i * (g + cos_i) - 1.0) / (cos_i * (g - cos_i) + 1.0)
    return 0.5 * a * a * (1.0 + b * b)


def _integrate_lobe(mu: Tensor, roughness: Tensor, samples: int) -> tuple[Tensor, ...]:
    """Integrals over visible normals for mu [1, M, 1] and roughness [R, 1, 1].

    Returns E, B, S [R, M], and for metal and dielectric the moments [2, R, M] of lobe^1.5: mass, tangential, normal.
    """
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
    fresnel = fresnel_dielectric(cos_d)
    albedos = weight.mean(-1), (weight * schlick).mean(-1), (weight * fresnel).mean(-1)
    lobe = alpha / ((1.0 - hz * hz) + alpha.square() * hz * hz) / (1.0 + lambda_v + lambda_l).sqrt()  # ∝ lobe^0.5
    weights = torch.stack((weight * lobe, weight * lobe * fresnel.pow(1.5)))
    moments = weights.mean(-1), (weights * lx).mean(-1), (weights * lz).mean(-1)
    return *albedos, *moments


def _smith_lambda(cos: Tensor, alpha: Tensor) -> Tensor:
    tan2 = 1.0 / cos.square() - 1.0
    return 0.5 * ((1.0 + alpha.square() * tan2.clamp_min(0.0)).sqrt() - 1.0)


@functools.cache
def bsdf_tables() -> BsdfTables:
    """The tables, integrated on first use."""
    x = torch.linspace(0.0, 1.0, SIZE_MU, dtype=torch.float64)
    mu = (x * x).clamp(1e-4, 1.0 - 1e-6)  # [M]
    roughness = torch.linspace(0.0, 1.0, SIZE_ROUGHNESS, dtype=torch.float64).clamp_min(MIN_ROUGHNESS)
    integrals = _integrate_lobe(mu.float()[None, :, None], roughness.float()[:, None, None], _SAMPLES)
    total, bias, dielectric, mass, mean_x, mean_z = (t.double() for t in integrals)
    # E_avg by the trapezoid rule on the quadratic grid, dμ = 2 x dx.
    average = torch.trapezoid(2.0 * total * mu * 2.0 * x, x, dim=-1)
    # m = a·n + b·r with r = (−sin_v, μ): b from the tangential part, then a; t = b / (a + b).
    b = -mean_x / (1.0 - mu * mu).sqrt()
    a = mean_z - b * mu
    along = b / (a + b)
    along[..., -1] = along[..., -2]  # n and r coincide at normal incidence; take the limit
    effective = _effective_roughness((mean_x.square() + mean_z.square()).sqrt() / mass, roughness)
    arrays = (mu, roughness, total - bias, bias, dielectric, average, along, effective)
    return BsdfTables(*(t.numpy() for t in arrays))


def _effective_roughness(lengths: Tensor, roughness: Tensor) -> Tensor:
    """Roughness at which the metal lobe at normal incidence has the mean directions' lengths [2, R, M]."""
    reference = torch.cummax(lengths[0, :, -1].flip(0), 0).values  # the smoother the longer
    ladder = roughness.flip(0)
    upper = torch.searchsorted(reference, lengths.contiguous()).clamp(1, len(reference) - 1)
    low, high = reference[upper - 1], reference[upper]
    fraction = ((lengths - low) / (high - low).clamp_min(1e-9)).clamp(0.0, 1.0)
    return ladder[upper - 1] + fraction * (ladder[upper] - ladder[upper - 1])
