# SPDX-License-Identifier: GPL-3.0-or-later
"""Distant light as spherical harmonics of order 2, with the interface of the prefiltered cube map.

Convolution with a lobe scales each band: the clamped cosine by π, 2π/3, π/4 (Ramamoorthi and Hanrahan 2001), a GGX lobe
by its zonal moments, integrated here. Nine coefficients hold light smooth over about a radian: enough for the diffuse
part, and a start for the rest.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from .cube_map import cube_directions, cube_solid_angles
from .environment import latlong_directions
from .prefilter import ggx_lobe

_BANDS = (0, 1, 1, 1, 2, 2, 2, 2, 2)
_COSINE = (1.0, 2.0 / 3.0, 0.25)  # band factors of the normalized cosine lobe
_ROUGHNESSES = 33


def sh_basis(directions: Tensor) -> Tensor:
    """Real orthonormal harmonics [..., 9] up to order 2 at unit directions [..., 3]."""
    x, y, z = directions.unbind(-1)
    return torch.stack(
        (
            torch.full_like(x, 0.28209479),
            0.48860251 * y,
            0.48860251 * z,
            0.48860251 * x,
            1.09254843 * x * y,
            1.09254843 * y * z,
            0.31539157 * (3.0 * z * z - 1.0),
            1.09254843 * x * z,
            0.54627422 * (x * x - y * y),
        ),
        -1,
    )


@functools.cache
def _ggx_factors(device: torch.device) -> Tensor:
    """[33, 3] factors of bands 0, 1, 2 under the normalized GGX lobes of evenly spaced roughness 0..1."""
    # u² spacing gathers nodes at the peak of the sharp lobes.
    u = (torch.arange(4096, dtype=torch.float64) + 0.5) / 4096
    cos = 1.0 - u.pow(4)
    width = u.pow(3)
    rows = []
    for roughness in torch.linspace(0.0, 1.0, _ROUGHNESSES).tolist():
        weight = ggx_lobe(max(roughness, 0.02))(cos) * width
        weight = weight / weight.sum()
        rows.append([1.0, (weight * cos).sum().item(), (weight * (1.5 * cos * cos - 0.5)).sum().item()])
    return torch.tensor(rows, device=device)


class SphericalHarmonicsLight(nn.Module):
    """Distant light of nine coefficients a color channel, linear Rec.709, world axes.

    Radiance is linear in the parameter and may go negative between lobes; what is read for shading is cut off at zero.
    """

    def __init__(self, radiance: float = 0.5, device: torch.device | str = "cpu") -> None:
        super().__init__()
        coefficients = torch.zeros(9, 3, device=device)
        coefficients[0] = radiance / 0.28209479
        self.coefficients = nn.Parameter(coefficients)

    def prefilter(self) -> SphericalHarmonicsLight:
        """Nothing to prepare: the light itself answers `radiance` and `irradiance`."""
        return self

    def radiance(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """Mean radiance [P, 3] over the lobe of `roughness` [P, 1] around `directions` [P, 3], any length."""
        table = _ggx_factors(directions.device)
        position = roughness[:, 0].clamp(0.0, 1.0) * (_ROUGHNESSES - 1)
        low = position.detach().long().clamp_max(_ROUGHNESSES - 2)
        factors = torch.lerp(table[low], table[low + 1], (position - low)[:, None])  # [P, 3]
        basis = sh_basis(nn.functional.normalize(directions, dim=-1))
        return ((basis * factors[:, _BANDS]) @ self.coefficients).clamp_min(0.0)

    def irradiance(self, normals: Tensor) -> Tensor:
        """Irradiance ∫ L cosθ dω [P, 3] on surfaces facing unit `normals` [P, 3]."""
        factors = torch.tensor(_COSINE, device=normals.device)[list(_BANDS)]
        return torch.pi * ((sh_basis(normals) * factors) @ self.coefficients).clamp_min(0.0)

    def to_latlong(self, height: int) -> Tensor:
        """Lat-long image [h, 2h, 3] of radiance, row 0 at the top."""
        directions = latlong_directions(height, self.coefficients.device)
        return (sh_basis(directions) @ self.coefficients).clamp_min(0.0)

    @torch.no_grad()
    def from_cube(self, cube: Tensor) -> None:
        """Project radiance [6, R, R, 3] onto the basis."""
        size = cube.shape[1]
        basis = sh_basis(cube_directions(size)).to(cube) * cube_solid_angles(size).to(cube)[:, None]
        self.coefficients.copy_(basis.t() @ cube.reshape(-1, 3))

    def neutrality_loss(self) -> Tensor:
        """Mean deviation of coefficients from their gray, relative to the mean radiance; a scalar."""
        deviation = (self.coefficients - self.coefficients.mean(-1, keepdim=True)).abs()
        return deviation.mean() / self.coefficients[0].abs().mean().clamp_min(1e-4)
