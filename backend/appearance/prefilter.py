# SPDX-License-Identifier: GPL-3.0-or-later
"""Prefiltering of a cube map with GGX lobes and the clamped cosine as constant linear operators.

The lobe of roughness r is D·G of GGX seen along the normal (n = v = r), normalized (Karis 2013 takes D·cos; this is
the lobe itself). On few texels the operator is a dense matrix. On many it is split by scale: lobe = (lobe − cap) + cap,
where the cap equals the lobe outside an angle θ and is smooth inside. The difference is a sparse matrix on fine texels;
the cap is applied on half the resolution, by the same rule. No tail is cut off.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..kernels.linear_maps import SparseMap, dense_product
from .cube_map import bilinear_stencil, cube_directions, cube_solid_angles, cube_symmetries

DENSE_RESOLUTION = 16
_CAP_TEXELS = 5.5  # radius of the fine part, in fine texels of the face's mean width

Lobe = Callable[[Tensor], Tensor]


def ggx_lobe(roughness: float) -> Lobe:
    """Unnormalized reflected GGX lobe at normal incidence as a function of the cosine to its axis."""
    alpha2 = max(roughness, 1e-3) ** 4

    def lobe(cos: Tensor) -> Tensor:
        half2 = 0.5 * (1.0 + cos)  # squared cosine of the half vector
        # (1 − cos²h) written without cancellation near the axis.
        d = alpha2 / (0.5 * (1.0 - cos) + alpha2 * half2).square()
        tan2 = 1.0 / cos.clamp_min(1e-6).square() - 1.0
        g = 2.0 / (1.0 + (1.0 + alpha2 * tan2).sqrt())
        return torch.where(cos > 0, d * g, torch.zeros_like(cos))

    return lobe


def cosine_lobe(cos: Tensor) -> Tensor:
    """Clamped cosine; normalized, it turns radiance into irradiance / π."""
    return cos.clamp_min(0.0)


@dataclass(frozen=True)
class Operator:
    """Unnormalized convolution of base texels [6·S·S, C] with a lobe, read at texel centers [6·T·T, C]."""

    source: int
    target: int
    dense: Tensor | None = None  # [6·T·T, 6·S·S]
    sparse: SparseMap | None = None
    coarser: "Operator | None" = None  # the cap, on half the resolution
    stencil: SparseMap | None = None  # bilinear reading of the coarser result

    def __call__(self, pyramid: dict[int, Tensor]) -> Tensor:
        """Filter downsampled base cubes, by resolution -> [6·T·T, C], differentiable."""
        cube = pyramid[self.source]
        texels = cube.reshape(-1, cube.shape[-1])  # [6·S·S, C]
        if self.dense is not None:
            return dense_product(self.dense, texels)
        assert self.sparse is not None and self.coarser is not None
        result = self.sparse(texels)
        rest = self.coarser(pyramid)
        if self.stencil is not None:
            rest = self.stencil(rest)
        return result + rest


def build_operator(lobe: Lobe, source: int, target: int, device: torch.device) -> Operator:
    """Operator for `lobe` by quadrature over sub-texels.

    Args:
        lobe: function of the cosine to the axis.
        source: resolution S of the base it will be applied to, a power of two.
        target: resolution T of the result, T <= S.
    """
    if source <= DENSE_RESOLUTION:
        return Operator(source, target, dense=_dense(lobe, source, target, device))
    angle = _CAP_TEXELS * (torch.pi / 2) / source
    with torch.enable_grad():  # the caller may only be rendering
        edge = torch.tensor(angle, dtype=torch.float64).cos().requires_grad_()
        value = lobe(edge)
    (slope,) = torch.autograd.grad(value, edge)
    c0, k0, k1 = edge.item(), value.item(), slope.item()

    def cap(cos: Tensor) -> Tensor:
        # Meets the lobe at c0 with its slope and is flat on the axis.
        x = cos - c0
        return torch.where(x < 0, lobe(cos), k0 + k1 * (x - x * x / (2.0 * (1.0 - c0))))

    matrix = _near(lambda cos: lobe(cos) - cap(cos), c0, source, target, device)
    half = source // 2
    coarser = build_operator(cap, half, min(target, half), device)
    stencil = None
    if target > half:
        index, weights = bilinear_stencil(cube_directions(target), half)
        rows = torch.arange(len(index))[:, None].expand_as(index)
        rows, columns, values = (part.reshape(-1).to(device) for part in (rows, index, weights))
        stencil = SparseMap(rows, columns, values, (len(index), 6 * half * half))
    rows, columns = matrix.indices()
    sparse = SparseMap(rows, columns, matrix.values(), (matrix.shape[0], matrix.shape[1]))
    return Operator(source, target, None, sparse, coarser, stencil)


def _dense(lobe: Lobe, source: int, target: int, device: torch.device) -> Tensor:
    """[6·T·T, 6·S·S] integrals of the lobe over texels."""
    subdivisions = 4 if source > 8 else 6
    symmetry, representative = (part.to(device) for part in cube_symmetries(target)[1:])
    wedge, index = representative.unique(return_inverse=True)
    directions = cube_directions(source, subdivisions).to(device)  # [6·S·S, s·s, 3]
    angles = cube_solid_angles(source, subdivisions).to(device)
    cos = torch.einsum("tc,psc->tps", cube_directions(target).to(device)[wedge], directions).clamp(-1.0, 1.0)
    rows = (lobe(cos) * angles).sum(-1)  # [wedge, 6·S·S]
    source_moves = cube_symmetries(source)[0].to(device)
    matrix = torch.empty(6 * target * target, 6 * source * source, device=device)
    for i, move in enumerate(source_moves):
        moved = (symmetry == i).nonzero()[:, 0]
        matrix[moved] = rows[index[moved]][:, move]
    return matrix


def _near(lobe: Lobe, edge: float, source: int, target: int, device: torch.device) -> Tensor:
    """Sparse COO [6·T·T, 6·S·S] integrals over texels of a lobe that vanishes below the cosine `edge`."""
    subdivisions = 6
    symmetry, representative = (part.to(device) for part in cube_symmetries(target)[1:])
    wedge = representative.unique()
    axes = cube_directions(target).to(device)[wedge]
    directions = cube_directions(source, subdivisions).to(device)  # [6·S·S, s·s, 3]
    angles = cube_solid_angles(source, subdivisions).to(device)
    reach = math.cos(math.acos(edge) + 1.5 / source)  # and the half diagonal of a texel
    row, column = ((axes @ cube_directions(source).to(device).t()) > reach).nonzero(as_tuple=True)
    cos = torch.einsum("pc,psc->ps", axes[row], directions[column]).clamp(-1.0, 1.0)
    value = (torch.where(cos > edge, lobe(cos), torch.zeros_like(cos)) * angles[column]).sum(-1)
    indices, values = [], []
    for i, move in enumerate(cube_symmetries(source)[0].to(device)):
        moved = (symmetry == i).nonzero()[:, 0]
        # The texel that each texel of the wedge stands for under this symmetry, if any.
        original = torch.full((6 * target * target,), -1, device=device)
        original[representative[moved]] = moved
        rows = original[wedge[row]]
        keep = (rows >= 0) & (value > 0)
        indices.append(torch.stack((rows[keep], move.argsort()[column[keep]])))
        values.append(value[keep])
    size = (6 * target * target, 6 * source * source)
    return torch.sparse_coo_tensor(torch.cat(indices, 1), torch.cat(values), size, check_invariants=False).coalesce()


@dataclass(frozen=True)
class Ladder:
    """Filtered levels of a base of resolution R: the square roots of their roughnesses rise evenly, to 1."""

    resolution: int
    roughnesses: tuple[float, ...]  # of the base, then of each operator
    operators: tuple[Operator, ...]
    scales: tuple[Tensor, ...]  # [6·T·T, 1], makes each operator preserve a constant
    irradiance: Operator
    irradiance_scale: Tensor

    def level(self, roughness: Tensor) -> Tensor:
        """Fractional level of any shape for roughness of the same shape."""
        low = self.roughnesses[0] ** 0.5
        position = (roughness.clamp_min(1e-3).sqrt() - low) / (1.0 - low)
        return (len(self.operators) * position).clamp(0.0, len(self.operators))


@functools.cache
def ladder(resolution: int, device: torch.device) -> Ladder:
    """Operators for a base [6, R, R, 3]; R a power of two, at least 8. Built once per process, size and device."""
    assert resolution >= 8 and resolution & (resolution - 1) == 0
    # The width of a texel as a lobe, fitted: below this roughness the base itself is the best answer there is.
    low = (0.1 / resolution) ** 0.25
    count = 6 + max(0, (resolution // 16).bit_length() - 1)
    roughnesses = [(low + (1.0 - low) * i / count) ** 2 for i in range(count + 1)]
    operators, scales = [], []
    for roughness in roughnesses[1:]:
        target = 8
        while target < resolution and target < 1.3 / roughness**2:
            target *= 2
        source = min(resolution, max(2 * target, DENSE_RESOLUTION if roughness < 0.6 else 8))
        operator, scale = _normalized(ggx_lobe(roughness), source, target, device)
        operators.append(operator)
        scales.append(scale)
    irradiance = _normalized(cosine_lobe, min(resolution, DENSE_RESOLUTION), 8, device)
    return Ladder(resolution, tuple(roughnesses), tuple(operators), tuple(scales), *irradiance)


def _normalized(lobe: Lobe, source: int, target: int, device: torch.device) -> tuple[Operator, Tensor]:
    operator = build_operator(lobe, source, target, device)
    ones = {}
    size = source
    while size >= 8:
        ones[size] = torch.ones(6, size, size, 1, device=device)
        size //= 2
    return operator, 1.0 / operator(ones)
