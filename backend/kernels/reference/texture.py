# SPDX-License-Identifier: GPL-3.0-or-later
"""Slow, obvious texture and cube map sampling in torch: any float type, gradients by autograd, geometry spelled out."""

from collections.abc import Sequence

import torch


def sample_texture(levels: Sequence[torch.Tensor], uv: torch.Tensor, lod: torch.Tensor | None = None) -> torch.Tensor:
    """levels [h, w, C], uv [P, 2], lod [P] -> [P, C]; see `backend.kernels.texture.sample_texture`."""
    return _blend([_bilinear(level, uv) for level in levels], lod)


def sample_cube(
    levels: Sequence[torch.Tensor], directions: torch.Tensor, level: torch.Tensor | None = None
) -> torch.Tensor:
    """levels [6, R, R, C], directions [P, 3], level [P] -> [P, C]; see `backend.kernels.texture.sample_cube`."""
    rows = []
    for cube in levels:
        rows.append(torch.stack([_cube_bilinear(cube, direction) for direction in directions]))
    return _blend(rows, level)


def texel_direction(face: int, row: float, column: float, side: int) -> torch.Tensor:
    """Direction through the center of a texel, which may lie beyond its face: (±1, a, b), (a, ±1, b), (a, b, ±1)."""
    a, b = 2 * (column + 0.5) / side - 1, 2 * (row + 0.5) / side - 1
    sign = 1.0 if face % 2 == 0 else -1.0
    corner = [[sign, a, b], [a, sign, b], [a, b, sign]][face // 2]
    return torch.tensor(corner, dtype=torch.float64)


def _blend(values: list[torch.Tensor], lod: torch.Tensor | None) -> torch.Tensor:
    """values: one [P, C] a level."""
    if lod is None or len(values) == 1:
        return values[0]
    stack = torch.stack(values)  # [L, P, C]
    level = lod.clamp(0, len(values) - 1)
    lower = level.detach().floor().clamp(max=len(values) - 2).long()
    weight = (level - lower)[:, None]
    samples = torch.arange(lod.shape[0], device=lod.device)
    return (1 - weight) * stack[lower, samples] + weight * stack[lower + 1, samples]


def _bilinear(texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    height, width = texture.shape[:2]
    x = (uv[:, 0] * width - 0.5).clamp(0, width - 1)
    y = ((1 - uv[:, 1]) * height - 0.5).clamp(0, height - 1)
    j, i = x.detach().floor().long(), y.detach().floor().long()
    j, i = j.clamp(max=max(width - 2, 0)), i.clamp(max=max(height - 2, 0))
    fx, fy = (x - j)[:, None], (y - i)[:, None]
    right, below = (j + 1).clamp(max=width - 1), (i + 1).clamp(max=height - 1)
    top = (1 - fx) * texture[i, j] + fx * texture[i, right]
    bottom = (1 - fx) * texture[below, j] + fx * texture[below, right]
    return (1 - fy) * top + fy * bottom


def _project(direction: torch.Tensor) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Face, a, b of a direction [3]."""
    size = direction.detach().abs().tolist()
    axis = size.index(max(size))
    if size[axis] == 0:
        return 0, direction.sum() * 0, direction.sum() * 0
    others = [k for k in range(3) if k != axis]
    scaled = direction / direction[axis].abs()
    return 2 * axis + int(direction[axis] < 0), scaled[others[0]], scaled[others[1]]


def _cube_bilinear(cube: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    side = cube.shape[1]
    face, a, b = _project(direction)
    x, y = (a + 1) / 2 * side - 0.5, (b + 1) / 2 * side - 0.5
    j, i = int(x.detach().floor()), int(y.detach().floor())
    fx, fy = x - j, y - i
    total = torch.zeros(cube.shape[3], dtype=cube.dtype, device=cube.device)
    found, homeless = [], torch.zeros((), dtype=cube.dtype, device=cube.device)
    for row, column, weight in [
        (i, j, (1 - fx) * (1 - fy)),
        (i, j + 1, fx * (1 - fy)),
        (i + 1, j, (1 - fx) * fy),
        (i + 1, j + 1, fx * fy),
    ]:
        inside_row, inside_column = 0 <= row < side, 0 <= column < side
        if not inside_row and not inside_column:
            homeless = homeless + weight
            continue
        if inside_row and inside_column:
            texel = cube[face, row, column]
        else:
            # the texel that contains the direction of the center that lies beyond the edge
            other, s, t = _project(texel_direction(face, row, column, side))
            texel = cube[other, int((t + 1) / 2 * side), int((s + 1) / 2 * side)]
        found.append(texel)
        total = total + weight * texel
    if len(found) == 3:
        total = total + homeless * (found[0] + found[1] + found[2]) / 3
    return total
