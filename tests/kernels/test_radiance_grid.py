# SPDX-License-Identifier: GPL-3.0-or-later
"""Volume rendering of a voxel grid, its gradient and its depth, against torch's autograd over all samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from backend.kernels import radiance_grid
from backend.kernels.masked_adam import MaskedAdam
from backend.kernels.radiance_grid import Cameras, RayGrid, find_depth, train_rays
from tests.capture.builders import orbit_pose

SIZE = 9
STEP = float(radiance_grid.STEP)
RESOLUTION = (6, 8)


def scene(device: str) -> tuple[RayGrid, Tensor, Cameras]:
    """Nine voxels a side over the unit ball's box, filled at random, and three cameras around them."""
    generator = torch.Generator().manual_seed(4)
    values = torch.randn(SIZE**3, 4, generator=generator)
    cell = 2.0 / (SIZE - 1)
    empty = torch.full((SIZE**3,), -1.0)
    grid = RayGrid((-1.0, -1.0, -1.0), cell, (SIZE, SIZE, SIZE), empty.to(device))
    poses = torch.stack([torch.as_tensor(orbit_pose(k)).float() for k in range(3)])
    height, width = RESOLUTION
    intrinsics = torch.tensor([[9.0, 9.0, width / 2, height / 2]]).repeat(3, 1)
    return grid, values.to(device), Cameras(intrinsics.to(device), poses.to(device), RESOLUTION)


def rays(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Origins and unit directions [N·H·W, 3] of all pixels."""
    height, width = cameras.resolution
    i, j = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    origins, directions = [], []
    for k, pose in zip(cameras.intrinsics.cpu(), cameras.cam_to_world.cpu()):
        local = torch.stack(((j + 0.5 - k[2]) / k[0], -(i + 0.5 - k[3]) / k[1], -torch.ones_like(i)), -1)
        world = torch.nn.functional.normalize(local.reshape(-1, 3) @ pose[:3, :3].T, dim=-1)
        directions.append(world)
        origins.append(pose[:3, 3].expand_as(world))
    return torch.cat(origins), torch.cat(directions)


def reference(grid: RayGrid, values: Tensor, origin: Tensor, direction: Tensor, jitter: float) -> tuple[Tensor, ...]:
    """Weights [S], colors [S, 3] and transmittance of one ray through the box, by torch."""
    start = (origin - torch.tensor(grid.origin)) / grid.cell
    a, b = -start / direction, (SIZE - 1 - start) / direction
    near, far = torch.minimum(a, b).amax().clamp(min=0), torch.maximum(a, b).amin()
    count = max(0, math.ceil((float(far) - float(near)) / STEP - jitter))
    t = near + STEP * (jitter + torch.arange(count))
    u = (start + t[:, None] * direction).clamp(0, SIZE - 1)  # [S, 3]
    low = u.floor().clamp(max=SIZE - 2).long()
    f = u - low
    raw = torch.zeros(count, 4)
    for k in range(8):
        bits = torch.tensor([k & 1, k >> 1 & 1, k >> 2])
        weight = torch.where(bits == 1, f, 1 - f).prod(-1, keepdim=True)
        at = low + bits
        raw = raw + weight * values[(at[:, 0] * SIZE + at[:, 1]) * SIZE + at[:, 2]]
    opacity = 1 - torch.exp(-torch.nn.functional.softplus(raw[:, 0]) * STEP)
    through = torch.cumprod(torch.cat((torch.ones(1), 1 - opacity)), 0)
    return through[:-1] * opacity, torch.sigmoid(raw[:, 1:]), through[-1]


def test_gradient_and_error_are_those_of_autograd(device: str) -> None:
    grid, values, cameras = scene(device)
    generator = torch.Generator().manual_seed(1)
    count = 3 * RESOLUTION[0] * RESOLUTION[1]
    images = torch.rand(count, 4, generator=generator)
    images[:, :3] *= images[:, 3:]
    images = images.half()
    pixels = torch.arange(count, dtype=torch.int32)
    jitter = torch.rand(count, generator=generator)
    backgrounds = torch.rand(count, 3, generator=generator)
    gradient = torch.zeros_like(values)
    errors = train_rays(
        grid,
        values,
        cameras,
        images.to(device),
        pixels.to(device),
        jitter.to(device),
        backgrounds.to(device),
        0.3,
        gradient,
    )
    leaf = values.cpu().clone().requires_grad_()
    total = torch.zeros(())
    expected = []
    for origin, direction, image, background, j in zip(*rays(cameras), images.float(), backgrounds, jitter):
        weights, colors, through = reference(grid, leaf, origin, direction, float(j))
        color = (weights[:, None] * colors).sum(0) + through * background
        wanted = image[:3] + (1 - image[3]) * background
        error = (color - wanted).square().sum()
        expected.append(float(error.detach()) / 3)
        sought = image[:3] / image[3].clamp(min=1e-3)
        single = (weights.detach()[:, None] * (colors - sought).square()).sum() * image[3]
        total = total + error + (1 - through - image[3]).square() + 0.3 * single
    total.backward()
    torch.testing.assert_close(errors.cpu(), torch.tensor(expected), rtol=5e-3, atol=1e-4)
    torch.testing.assert_close(gradient.cpu(), leaf.grad, rtol=5e-3, atol=1e-3)


def test_space_outside_the_hull_is_skipped(device: str) -> None:
    grid, values, cameras = scene(device)
    everywhere = RayGrid(grid.origin, grid.cell, grid.shape, torch.full_like(grid.empty, 5.0))
    values[:, 0] = 9.0
    assert bool((find_depth(grid, values, cameras) > 0).any())
    assert bool((find_depth(everywhere, values, cameras) < 0).all())


def test_depth_is_where_half_the_light_is_gone(device: str) -> None:
    grid, values, cameras = scene(device)
    values[:, 0] = 0.5
    density = math.log1p(math.exp(0.5))
    found = find_depth(grid, values, cameras).cpu().reshape(-1)
    for depth, origin, direction in zip(found, *rays(cameras)):
        start = (origin - torch.tensor(grid.origin)) / grid.cell
        a, b = -start / direction, (SIZE - 1 - start) / direction
        near, far = float(torch.minimum(a, b).amax()), float(torch.maximum(a, b).amin())
        half = near + math.log(2) / density
        if near >= far or half > far:
            assert depth < 0 or half < far + STEP
        else:
            assert abs(float(depth) - half * grid.cell) < 1e-3


def test_adam_moves_only_what_has_a_gradient(device: str) -> None:
    values = torch.zeros(5, 4, device=device)
    optimizer = MaskedAdam(values)
    reference_values = torch.zeros(1, 4, requires_grad=True)
    peer = torch.optim.Adam([reference_values], lr=0.1, betas=(0.9, 0.99), eps=1e-12)
    for step in range(4):
        row = torch.tensor([1.0, -2.0, 0.5, 3.0]) * (step + 1)
        optimizer.gradient[2] = row.to(device)
        optimizer.step(0.1, 0.1)
        reference_values.grad = row[None].clone()
        peer.step()
    torch.testing.assert_close(values[2].cpu(), reference_values[0].detach(), rtol=1e-4, atol=1e-5)
    assert float(values[[0, 1, 3, 4]].abs().max()) == 0 and float(optimizer.gradient.abs().max()) == 0
