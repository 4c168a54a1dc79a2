# SPDX-License-Identifier: GPL-3.0-or-later
"""Mip pyramids of textures and cube maps, laid end to end in one buffer so that sampling is one launch.

Each level halves the one before it, rounding down, with an exact box filter: a texel averages the area it covers, and
where sizes are odd the texels on its border count by their share. The mean is therefore the same on all levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import warp as wp

from backend.kernels.bridge import MODULE_OPTIONS, as_warp, launch

wp.set_module_options(MODULE_OPTIONS)

MAX_CHANNELS = 16


@dataclass(frozen=True)
class Pyramid:
    """Levels end to end: texels [sum, C] float32; shapes (height, width) a level, finest first; 1 or 6 faces.

    `make_pyramid` builds one in a single pass; `pack` copies existing levels.
    """

    texels: torch.Tensor
    shapes: tuple[tuple[int, int], ...]
    faces: int

    def levels(self) -> list[torch.Tensor]:
        """The levels as views [h, w, C], or [6, R, R, C] for a cube map. Differentiable."""
        parts = self.texels.split([self.faces * height * width for height, width in self.shapes])
        lead = () if self.faces == 1 else (6,)
        return [part.view(*lead, height, width, -1) for part, (height, width) in zip(parts, self.shapes)]


def pack(levels: Sequence[torch.Tensor]) -> Pyramid:
    """Lay levels of any sizes, each [h, w, C] or [6, R, R, C] (cube map) float32, end to end. Differentiable."""
    assert len(levels) > 0
    for level in levels:
        _check(level)
        assert level.dim() == levels[0].dim() and level.shape[-1] == levels[0].shape[-1]
    flat = [level.reshape(-1, level.shape[-1]) for level in levels]
    texels = flat[0] if len(flat) == 1 else torch.cat(flat)
    shapes = tuple((level.shape[-3], level.shape[-2]) for level in levels)
    return Pyramid(texels, shapes, 1 if levels[0].dim() == 3 else 6)


def make_pyramid(base: torch.Tensor, levels: int | None = None) -> Pyramid:
    """Box-filtered levels of a texture [H, W, C] or cube map [6, R, R, C] float32, down to 1 × 1 or `levels` of them.

    Differentiable once.
    """
    _check(base)
    shapes = [(base.shape[-3], base.shape[-2])]
    while max(shapes[-1]) > 1 and (levels is None or len(shapes) < levels):
        shapes.append((max(1, shapes[-1][0] // 2), max(1, shapes[-1][1] // 2)))
    faces = 1 if base.dim() == 3 else 6
    flat = base.reshape(-1, base.shape[-1])
    if len(shapes) == 1:
        return Pyramid(flat, tuple(shapes), faces)
    return Pyramid(_MakePyramid.apply(flat, tuple(shapes), faces), tuple(shapes), faces)


def build_mip_pyramid(texture: torch.Tensor, levels: int | None = None) -> list[torch.Tensor]:
    """Levels [h, w, C] of a texture [H, W, C], finest first. `make_pyramid` spares the samplers a copy."""
    assert texture.dim() == 3
    return make_pyramid(texture, levels).levels()


def cube_mips(base: torch.Tensor, levels: int | None = None) -> list[torch.Tensor]:
    """Levels [6, R, R, C] of a cube map, finest first. `make_pyramid` spares the samplers a copy."""
    assert base.dim() == 4
    return make_pyramid(base, levels).levels()


def _check(level: torch.Tensor) -> None:
    assert level.dim() in (3, 4) and level.dtype == torch.float32 and level.numel() > 0
    assert 1 <= level.shape[-1] <= MAX_CHANNELS
    assert level.dim() == 3 or (level.shape[0] == 6 and level.shape[1] == level.shape[2])
    assert level.numel() < 1 << 30, "texel numbers, pyramid included, are int32"


class _MakePyramid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, base: torch.Tensor, shapes: tuple[tuple[int, int], ...], faces: int) -> torch.Tensor:
        ctx.shapes, ctx.faces = shapes, faces
        total = sum(faces * height * width for height, width in shapes)
        texels = torch.empty(total, base.shape[1], device=base.device)
        texels[: base.shape[0]] = base
        first = 0
        for fine, coarse in zip(shapes[:-1], shapes[1:]):
            second = first + faces * fine[0] * fine[1]
            launch(
                halve_forward,
                faces * coarse[0] * coarse[1],
                [first, *fine, second, *coarse, base.shape[1]],
                [as_warp(texels.view(-1), wp.float32)],
                base.device,
            )
            first = second
        return texels

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        shapes, faces = ctx.shapes, ctx.faces
        grad = grad.contiguous()
        channels = grad.shape[1]
        sizes = [faces * height * width for height, width in shapes]
        # the whole gradient of a level is its own plus what the next coarser one passes down
        above = grad[sum(sizes[:-1]) :]
        for level in range(len(shapes) - 2, -1, -1):
            first = sum(sizes[:level])
            own = grad[first : first + sizes[level]]
            result = torch.empty_like(own)
            launch(
                halve_backward,
                sizes[level],
                [as_warp(own.view(-1), wp.float32), as_warp(above.view(-1), wp.float32)]
                + [*shapes[level], *shapes[level + 1], channels],
                [as_warp(result.view(-1), wp.float32)],
                grad.device,
            )
            above = result
        return above, None, None


@wp.func
@no_type_check
def _overlap(coarse: int, coarse_size: int, fine: int, fine_size: int) -> int:
    """Length that a coarse and a fine texel share along an axis, in 1 / (fine_size · coarse_size) of the image: a
    coarse texel is fine_size of these long, a fine one coarse_size."""
    end = wp.min((coarse + 1) * fine_size, (fine + 1) * coarse_size)
    return wp.max(end - wp.max(coarse * fine_size, fine * coarse_size), 0)


@wp.kernel
@no_type_check
def halve_forward(
    fine_first: int,
    fine_height: int,
    fine_width: int,
    coarse_first: int,
    height: int,
    width: int,
    channels: int,
    texels: wp.array(dtype=wp.float32),
):
    coarse = wp.tid()
    face = coarse // (height * width)
    row = coarse // width - face * height
    column = coarse % width
    target = (coarse_first + coarse) * channels
    if fine_height == 2 * height and fine_width == 2 * width:
        upper = (fine_first + (face * fine_height + 2 * row) * fine_width + 2 * column) * channels
        lower = upper + fine_width * channels
        for c in range(channels):
            pair = texels[upper + c] + texels[upper + channels + c]
            texels[target + c] = 0.25 * (pair + texels[lower + c] + texels[lower + channels + c])
        return
    for c in range(channels):
        texels[target + c] = 0.0
    top = row * fine_height // height
    left = column * fine_width // width
    bottom = ((row + 1) * fine_height + height - 1) // height
    right = ((column + 1) * fine_width + width - 1) // width
    for i in range(top, bottom):
        share = float(_overlap(row, height, i, fine_height)) / float(fine_height * fine_width)
        for j in range(left, right):
            weight = share * float(_overlap(column, width, j, fine_width))
            source = (fine_first + (face * fine_height + i) * fine_width + j) * channels
            for c in range(channels):
                texels[target + c] += weight * texels[source + c]


@wp.kernel
@no_type_check
def halve_backward(
    own: wp.array(dtype=wp.float32),
    above: wp.array(dtype=wp.float32),
    fine_height: int,
    fine_width: int,
    height: int,
    width: int,
    channels: int,
    result: wp.array(dtype=wp.float32),
):
    fine = wp.tid()
    face = fine // (fine_height * fine_width)
    row = fine // fine_width - face * fine_height
    column = fine % fine_width
    target = fine * channels
    if fine_height == 2 * height and fine_width == 2 * width:
        parent = ((face * height + row // 2) * width + column // 2) * channels
        for c in range(channels):
            result[target + c] = own[target + c] + 0.25 * above[parent + c]
        return
    for c in range(channels):
        result[target + c] = own[target + c]
    # a fine texel is no longer than a coarse one, so that it touches one or two of them along an axis
    top = row * height // fine_height
    left = column * width // fine_width
    bottom = ((row + 1) * height + fine_height - 1) // fine_height
    right = ((column + 1) * width + fine_width - 1) // fine_width
    for i in range(top, bottom):
        share = float(_overlap(i, height, row, fine_height)) / float(fine_height * fine_width)
        for j in range(left, right):
            weight = share * float(_overlap(j, width, column, fine_width))
            source = ((face * height + i) * width + j) * channels
            for c in range(channels):
                result[target + c] += weight * above[source + c]
