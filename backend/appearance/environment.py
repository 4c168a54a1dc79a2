# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment light: a positive cube map, prefiltered for the split-sum approximation."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels.texture import Pyramid, pack, sample_cube
from .cube_map import cube_directions, cube_solid_angles, downsample, sample_cube_bilinear, with_ring
from .prefilter import Ladder, ladder

_FLOOR = 1e-4  # darkest radiance a texel can hold: keeps the logarithm and its gradient finite


class Prefiltered(NamedTuple):
    """What shading reads: the base and its filtered levels, and irradiance / π on a small cube."""

    levels: list[Tensor]  # level 0 is the base [6, R, R, 3]; then [6, R_l, R_l, 3] of rising roughness
    irradiance_cube: Tensor  # [6, r, r, 3]
    ladder: Ladder
    packed: Pyramid  # the levels, then the irradiance cube, end to end

    def radiance(self, directions: Tensor, roughness: Tensor) -> Tensor:
        """Mean radiance [P, 3] over the lobe of `roughness` [P, 1] around `directions` [P, 3], any length."""
        # The ladder ends below the irradiance cube, which is a level only by its place.
        return sample_cube(self.packed, directions, self.ladder.level(roughness[:, 0]))

    def irradiance(self, normals: Tensor) -> Tensor:
        """Irradiance ∫ L cosθ dω [P, 3] on surfaces facing `normals` [P, 3]."""
        last = torch.full((len(normals),), float(len(self.levels)), device=normals.device)
        return torch.pi * sample_cube(self.packed, normals, last)


class EnvironmentLight(nn.Module):
    """Distant light as a cube map of radiance, linear Rec.709, world axes.

    Parameters are logarithms of radiance, so that texels stay positive and an optimizer's step is a ratio: the sun and
    the sky move alike. `log_tint` [3] is added to every texel: what is held against the mean color moves all of the
    light, and not those texels first of which the photographs say least.
    """

    def __init__(self, resolution: int = 16, radiance: float = 1.0, device: torch.device | str = "cpu") -> None:
        """A gray light, at first the one under which white is white; `resolution` is a power of two from 8 up."""
        super().__init__()
        value = torch.full((6, resolution, resolution, 3), radiance, device=device)
        self.log_radiance = nn.Parameter(value.log())
        self.log_tint = nn.Parameter(torch.zeros(3, device=device))

    @property
    def resolution(self) -> int:
        return self.log_radiance.shape[1]

    def base(self) -> Tensor:
        """Radiance of the texels, [6, R, R, 3]."""
        return (self.log_radiance + self.log_tint).exp()

    def prefilter(self) -> Prefiltered:
        """Filter the base for all roughnesses and for irradiance; differentiable, once per optimizer step."""
        return prefilter(self.base())

    @torch.no_grad()
    def set_base(self, cube: Tensor) -> None:
        """Take radiance [6, R, R, 3], of the same or another resolution, as the new value."""
        self.log_radiance = nn.Parameter(cube.clamp_min(_FLOOR).log())
        self.log_tint.zero_()

    @torch.no_grad()
    def resize(self, resolution: int) -> None:
        """Change the resolution, coarse to fine or back. Makes a new parameter: rebuild the optimizer's group."""
        base = self.base()
        if resolution <= self.resolution:
            self.set_base(downsample(base, resolution))
            return
        directions = cube_directions(resolution).to(base)
        self.set_base(sample_cube_bilinear(base, directions).reshape(6, resolution, resolution, 3))

    def to_latlong(self, height: int) -> Tensor:
        """Lat-long image [h, 2h, 3], row 0 at the top (+z)."""
        return cube_to_latlong(self.base(), height)

    @torch.no_grad()
    def from_latlong(self, image: Tensor, resolution: int | None = None) -> None:
        """Take a lat-long image [h, w, 3] as the new value, at `resolution` or the present one."""
        self.set_base(latlong_to_cube(image.to(self.log_radiance), resolution or self.resolution))

    def neutrality_loss(self) -> Tensor:
        """Mean deviation of texels from their gray, relative to the mean radiance; a scalar."""
        base = self.base()
        deviation = (base - base.mean(-1, keepdim=True)).abs()
        return deviation.mean() / base.mean().clamp_min(_FLOOR)

    def tint_loss(self) -> Tensor:
        """Mean square of the deviation of the mean color from its gray, relative to it; a scalar.

        Of an object that is all of one color no photograph says whether that color is its own or the light's. The mean
        of real skies and rooms is within a fifth of gray, for which this asks little. The gradient goes to the tint.
        """
        mean = self.log_radiance.detach().exp().mean((0, 1, 2)) * self.log_tint.exp()  # [3]
        return (mean / mean.mean().clamp_min(_FLOOR) - 1).square().mean()

    def smoothness_loss(self) -> Tensor:
        """Mean absolute difference of log radiance between neighboring texels, also across faces; a scalar."""
        x = with_ring(self.log_radiance)
        columns = (x[:, 1:-1, 1:] - x[:, 1:-1, :-1]).abs().mean()
        return columns + (x[:, 1:, 1:-1] - x[:, :-1, 1:-1]).abs().mean()


def prefilter(base: Tensor) -> Prefiltered:
    """Filtered levels of a cube of radiance [6, R, R, 3]; R a power of two from 8 up. Differentiable."""
    filters = ladder(base.shape[1], base.device)
    pyramid = {base.shape[1]: base}
    size = base.shape[1]
    while size > 8:
        pyramid[size // 2] = downsample(pyramid[size], size // 2)
        size //= 2
    levels = [base]
    for operator, scale in zip(filters.operators, filters.scales):
        levels.append((operator(pyramid) * scale).reshape(6, operator.target, operator.target, 3))
    t = filters.irradiance.target
    irradiance = (filters.irradiance(pyramid) * filters.irradiance_scale).reshape(6, t, t, 3)
    return Prefiltered(levels, irradiance, filters, pack([*levels, irradiance]))


def latlong_directions(height: int, device: torch.device | None = None) -> Tensor:
    """Unit directions [h, 2h, 3] of the pixel centers of a lat-long image."""
    v = torch.pi * (0.5 - (torch.arange(height, device=device) + 0.5) / height)  # elevation
    u = 2.0 * torch.pi * (0.5 - (torch.arange(2 * height, device=device) + 0.5) / (2 * height))  # azimuth
    elevation, azimuth = torch.meshgrid(v, u, indexing="ij")
    cos = elevation.cos()
    return torch.stack((cos * azimuth.cos(), cos * azimuth.sin(), elevation.sin()), -1)


def sample_latlong(image: Tensor, directions: Tensor) -> Tensor:
    """Bilinear lookup of directions [P, 3] in a lat-long image [h, w, 3] -> [P, 3], wrapping around."""
    x, y, z = F.normalize(directions, dim=-1).unbind(-1)
    u = 0.5 - torch.atan2(y, x) / (2.0 * torch.pi)
    v = 0.5 - z.clamp(-1.0, 1.0).asin() / torch.pi  # downwards
    # One column more on either side closes the seam.
    padded = torch.cat((image[:, -1:], image, image[:, :1]), 1).permute(2, 0, 1)[None]  # [1, 3, h, w + 2]
    width = image.shape[1]
    grid = torch.stack((2.0 * (u * width + 1.0) / (width + 2) - 1.0, 2.0 * v - 1.0), -1)[None, None]
    return F.grid_sample(padded, grid, padding_mode="border", align_corners=False)[0, :, 0].t()


def cube_to_latlong(cube: Tensor, height: int) -> Tensor:
    """Resample radiance [6, R, R, 3] -> [h, 2h, 3], averaging where pixels are larger than texels."""
    k = max(1, -(-2 * cube.shape[1] // height))
    directions = latlong_directions(height * k, cube.device)
    fine = sample_cube_bilinear(cube, directions.reshape(-1, 3)).reshape(height * k, 2 * height * k, 3)
    # Rows nearer the pole cover less of the sphere.
    weights = directions[..., :2].norm(dim=-1, keepdim=True)
    shape = (height, k, 2 * height, k)
    return (fine * weights).reshape(*shape, 3).sum((1, 3)) / weights.reshape(*shape, 1).sum((1, 3))


def latlong_to_cube(image: Tensor, resolution: int) -> Tensor:
    """Resample a lat-long image [h, w, 3] -> [6, R, R, 3]: means over texels, weighted by solid angle."""
    k = max(1, -(-image.shape[0] // (2 * resolution)))
    k = min(max(k, 2), 16)
    directions = cube_directions(resolution, k).to(image)  # [6·R·R, k·k, 3]
    angles = cube_solid_angles(resolution, k).to(image)[..., None]
    fine = sample_latlong(image, directions.reshape(-1, 3)).reshape(*directions.shape[:2], 3)
    return ((fine * angles).sum(1) / angles.sum(1)).reshape(6, resolution, resolution, 3)
