# SPDX-License-Identifier: GPL-3.0-or-later
"""Fused depth images of a sphere give its signed distance; what no camera sees counts as inside."""

from __future__ import annotations

import torch

from backend.kernels.depth_fusion import fuse_depth
from tests.capture.builders import orbit_pose


def test_a_sphere_is_found_again(device: str) -> None:
    size, cell, radius, reach = 25, 0.1, 0.8, 0.3
    height = width = 96
    poses = torch.stack([torch.as_tensor(orbit_pose(k)).float() for k in range(8)])
    intrinsics = torch.tensor([[110.0, 110.0, width / 2, height / 2]]).repeat(8, 1)
    i, j = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    depth = []
    for k, pose in zip(intrinsics, poses):
        local = torch.stack(((j + 0.5 - k[2]) / k[0], -(i + 0.5 - k[3]) / k[1], -torch.ones_like(i)), -1)
        direction = torch.nn.functional.normalize(local @ pose[:3, :3].T, dim=-1)  # [H, W, 3]
        b = (direction * pose[:3, 3]).sum(-1)
        discriminant = b * b - pose[:3, 3].square().sum() + radius**2
        depth.append(torch.where(discriminant > 0, -b - discriminant.clamp(min=0).sqrt(), -torch.ones_like(b)))
    distance, votes = fuse_depth(
        (-1.2, -1.2, -1.2),
        cell,
        (size, size, size),
        reach,
        torch.stack(depth).to(device),
        intrinsics.to(device),
        torch.linalg.inv(poses).contiguous().to(device),
    )
    grid = torch.arange(size) * cell - 1.2
    points = torch.stack(torch.meshgrid(grid, grid, grid, indexing="ij"), -1).reshape(-1, 3)
    true = points.norm(dim=-1) - radius
    distance, votes = distance.cpu(), votes.cpu()
    near = (true.abs() < 0.15) & (votes > 0)
    assert int(near.sum()) > 500
    assert float((torch.sign(distance[near]) == torch.sign(true[near])).float().mean()) > 0.9
    assert float((distance[near] - true[near]).abs().mean()) < 0.12
    deep = true < -2 * reach
    assert bool((distance[deep] == -reach).all()) and bool((votes[deep] == 0).all())
    assert float(distance.max()) <= reach + 1e-6
