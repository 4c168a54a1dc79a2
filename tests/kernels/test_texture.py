# SPDX-License-Identifier: GPL-3.0-or-later
import itertools
import math

import pytest
import torch

from backend.kernels.reference import texture as reference
from backend.kernels.texture import (
    Pyramid,
    build_mip_pyramid,
    make_pyramid,
    pack,
    sample_cube,
    sample_texture,
)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _compare(fast: object, slow: object, inputs: list[torch.Tensor], device: str, keep: torch.Tensor) -> None:
    """Values and gradients of `fast` in float32 against `slow` in float64; `keep` [P] marks the samples to compare."""
    exact = [x.double().requires_grad_() for x in inputs]
    expected = slow(*exact)  # type: ignore[operator]
    given = [x.to(device).requires_grad_() for x in inputs]
    result = fast(*given)  # type: ignore[operator]
    torch.testing.assert_close(result.detach().cpu().double(), expected.detach(), rtol=0, atol=2e-5)
    weights = torch.randn(result.shape, generator=_generator(5)) * keep[:, None]
    (result * weights.to(device)).sum().backward()
    (expected * weights).sum().backward()
    for ours, theirs in zip(given, exact):
        scale = max(1.0, float(theirs.grad.abs().max()))
        torch.testing.assert_close(ours.grad.cpu().double(), theirs.grad, rtol=0, atol=2e-5 * scale)


def _uv(count: int) -> torch.Tensor:
    inside = torch.rand(count, 2, generator=_generator(1)) * 1.6 - 0.3
    special = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-5.0, 0.5], [0.5, 9.0], [0.501, 0.497]])
    return torch.cat([inside, special])


@pytest.mark.parametrize("height, width, channels", [(8, 16, 3), (7, 5, 1), (1, 1, 4), (1, 6, 16), (12, 12, 9)])
def test_sample_texture(device: str, height: int, width: int, channels: int) -> None:
    levels = build_mip_pyramid(torch.rand(height, width, channels, generator=_generator(0)))
    uv = _uv(200)
    lod = torch.rand(uv.shape[0], generator=_generator(2)) * (len(levels) + 2) - 1.5
    _compare(
        lambda uv, lod, *levels: sample_texture(list(levels), uv, lod),
        lambda uv, lod, *levels: reference.sample_texture(levels, uv, lod) + 0 * (uv.sum() + lod.sum()),
        [uv, lod, *levels],
        device,
        torch.ones(uv.shape[0]),
    )


def test_texel_centers_and_orientation(device: str) -> None:
    texture = torch.rand(4, 6, 2, generator=_generator(3), device="cpu").to(device)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    uv = torch.stack([(columns + 0.5) / 6, 1 - (rows + 0.5) / 4], dim=-1).reshape(-1, 2).to(device)
    torch.testing.assert_close(sample_texture(texture, uv).view(4, 6, 2), texture)
    # v = 1 is row 0, and beyond the border the border repeats
    beyond = torch.tensor([[0.5 / 6, 3.0], [0.5 / 6, -3.0]], device=device)
    torch.testing.assert_close(sample_texture(texture, beyond), torch.stack([texture[0, 0], texture[3, 0]]))


def test_clamped_coordinates_get_no_gradient(device: str) -> None:
    texture = torch.rand(4, 4, 2, generator=_generator(3)).to(device)
    uv = torch.tensor([[-0.2, 0.4], [0.4, 1.2]], device=device, requires_grad=True)
    lod = torch.tensor([-0.5, 7.0], device=device, requires_grad=True)
    sample_texture(texture, uv, lod).square().sum().backward()
    assert uv.grad[0, 0] == 0 and uv.grad[1, 1] == 0 and uv.grad[0, 1] != 0
    assert not lod.grad.any()


def test_integer_levels(device: str) -> None:
    levels = [level.to(device) for level in build_mip_pyramid(torch.rand(8, 8, 3, generator=_generator(4)))]
    uv = torch.rand(50, 2, generator=_generator(1)).to(device)
    for index, level in enumerate(levels):
        lod = torch.full((50,), float(index), device=device)
        torch.testing.assert_close(sample_texture(levels, uv, lod), sample_texture(level, uv))
    torch.testing.assert_close(sample_texture(levels, uv), sample_texture(levels[0], uv))


def test_forms_of_a_pyramid_agree(device: str) -> None:
    texture = torch.rand(9, 6, 5, generator=_generator(4)).to(device)
    uv, lod = torch.rand(50, 2, generator=_generator(1)).to(device), torch.linspace(0, 3, 50, device=device)
    results, gradients = [], []
    for make in (lambda t: t, build_mip_pyramid, make_pyramid, lambda t: pack(build_mip_pyramid(t))):
        leaf = texture.clone().requires_grad_()
        result = sample_texture(make(leaf), uv, lod)
        result.square().sum().backward()
        results.append(result.detach())
        gradients.append(leaf.grad)
    for result, gradient in zip(results, gradients):
        torch.testing.assert_close(result, results[0])
        torch.testing.assert_close(gradient, gradients[0])


def _directions(count: int) -> torch.Tensor:
    """Random directions of many lengths, and all poles, edge midpoints, corners and points beside these."""
    random = torch.randn(count, 3, generator=_generator(1)) * torch.rand(count, 1, generator=_generator(2)) * 10
    special = torch.tensor([s for s in itertools.product((-1.0, 0.0, 1.0), repeat=3) if any(s)])
    beside = special.repeat(4, 1) + 0.05 * torch.randn(4 * special.shape[0], 3, generator=_generator(3))
    return torch.cat([random, special, beside, torch.zeros(1, 3)])


def _smooth(directions: torch.Tensor, sides: list[int]) -> torch.Tensor:
    """[P] 1 where the sample is differentiable: clear of seams between faces and of lines between texel centers."""
    size, order = directions.double().abs().sort(dim=1)
    clear = (size[:, 2] - size[:, 1] > 1e-4 * size[:, 2]) & (size[:, 2] > 0)
    ratio = directions.double() / size[:, 2:]
    for side in sides:
        x = (ratio + 1) / 2 * side - 0.5
        near = (x - x.round()).abs() < 1e-4
        near.scatter_(1, order[:, 2:], False)
        clear &= ~near.any(1)
    return clear.float()


@pytest.mark.parametrize("sides", [[8], [5, 3, 1], [16, 16, 4], [1]])
def test_sample_cube(device: str, sides: list[int]) -> None:
    levels = [torch.rand(6, side, side, 3, generator=_generator(side)) for side in sides]
    directions = _directions(150)
    level = torch.rand(directions.shape[0], generator=_generator(4)) * (len(sides) + 1) - 1
    _compare(
        lambda d, l, *levels: sample_cube(list(levels), d, l),
        lambda d, l, *levels: reference.sample_cube(levels, d, l) + 0 * l.sum(),
        [directions, level, *levels],
        device,
        _smooth(directions, sides),
    )


def test_cube_texel_centers(device: str) -> None:
    cube = torch.rand(6, 4, 4, 2, generator=_generator(0)).to(device)
    directions = torch.stack(
        [reference.texel_direction(face, i, j, 4) for face in range(6) for i in range(4) for j in range(4)]
    )
    sampled = sample_cube(cube, 3.0 * directions.float().to(device))
    torch.testing.assert_close(sampled.view(6, 4, 4, 2), cube)


@pytest.mark.parametrize("side", [1, 2, 7])
def test_cube_is_continuous_across_seams(device: str, side: int) -> None:
    cube = torch.rand(6, side, side, 1, generator=_generator(side)).to(device)
    along = torch.linspace(-1, 1, 41)
    for first, second in itertools.permutations(range(3), 2):
        for signs in itertools.product((-1.0, 1.0), repeat=2):
            seam = torch.zeros(41, 3)
            seam[:, first], seam[:, second], seam[:, 3 - first - second] = signs[0], signs[1], along
            sides = seam.clone(), seam.clone()
            sides[0][:, first] *= 1 + 1e-5
            sides[1][:, second] *= 1 + 1e-5
            here, there = (sample_cube(cube, side.to(device)) for side in sides)
            assert float((here - there).abs().max()) < 1e-3


def test_cube_gradient_lies_in_the_tangent_plane(device: str) -> None:
    cube = torch.rand(6, 8, 8, 3, generator=_generator(0)).to(device)
    directions = torch.randn(100, 3, generator=_generator(1)).to(device).requires_grad_()
    sample_cube(cube, directions).square().sum().backward()
    radial = (directions.grad * directions.detach()).sum(1).abs()
    assert float(radial.max()) < 1e-4 * float(directions.grad.abs().max())


def test_constant_stays_constant(device: str) -> None:
    levels = [torch.full((6, side, side, 1), 0.7, device=device) for side in (6, 2, 1)]
    level = torch.linspace(-1, 4, _directions(60).shape[0], device=device)
    sampled = sample_cube(levels, _directions(60).to(device), level)
    torch.testing.assert_close(sampled, torch.full_like(sampled, 0.7))


def test_bad_coordinates_stay_inside(device: str) -> None:
    nan, inf = math.nan, math.inf
    texture = torch.rand(4, 4, 2, device=device, requires_grad=True)
    uv = torch.tensor([[nan, 0.5], [inf, -inf], [0.5, 0.5]], device=device)
    sampled = sample_texture(make_pyramid(texture), uv, torch.tensor([nan, inf, 0.5], device=device))
    sampled[2].sum().backward()
    assert bool(sampled[1:].isfinite().all()) and bool(texture.grad.isfinite().all())
    cube = torch.rand(6, 4, 4, 2, device=device)
    directions = torch.tensor([[nan, 0.0, 1.0], [nan, nan, nan], [0.0, inf, 0.0], [1e-38, 1e38, 0.0]], device=device)
    assert bool(sample_cube(cube, directions)[3].isfinite().all())


def test_no_samples(device: str) -> None:
    texture = torch.rand(4, 4, 2, device=device, requires_grad=True)
    empty = sample_texture(texture, torch.empty(0, 2, device=device), torch.empty(0, device=device))
    empty.sum().backward()
    assert empty.shape == (0, 2) and not texture.grad.any()
    cube = Pyramid(torch.rand(6, 2, device=device), ((1, 1),), 6)
    assert sample_cube(cube, torch.empty(0, 3, device=device)).shape == (0, 2)


def test_strided_inputs(device: str) -> None:
    texture = torch.rand(3, 4, 4, generator=_generator(0)).to(device).permute(1, 2, 0)
    uv = torch.rand(2, 30, generator=_generator(1)).to(device).t()
    lod = torch.rand(60, generator=_generator(2)).to(device)[::2]
    expected = sample_texture(texture.contiguous(), uv.contiguous(), lod.contiguous())
    torch.testing.assert_close(sample_texture(texture, uv, lod), expected)
