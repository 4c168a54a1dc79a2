# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinhole cameras as clip-space transforms."""

from __future__ import annotations

import torch
from torch import Tensor


def world_to_clip(cam_to_world: Tensor, intrinsics: Tensor, resolution: tuple[int, int], near: float) -> Tensor:
    """Clip transforms [B, 4, 4], OpenGL clip space with an infinite far plane.

    Args:
        cam_to_world: [B, 4, 4] float32, OpenGL axes, rigid; differentiable.
        intrinsics: [B, 4] float32, fx fy cx cy in pixels, origin at the top-left corner.
        resolution: height and width of the image in pixels.
        near: distance of the near plane, world units.
    """
    height, width = resolution
    fx, fy, cx, cy = intrinsics.unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    # x_clip = (2 fx x / W) + (1 − 2 cx / W) z with z = −depth; y likewise, with row 0 at the top of the image.
    rows = (
        torch.stack((2 * fx / width, zero, 1 - 2 * cx / width, zero), -1),
        torch.stack((zero, 2 * fy / height, 2 * cy / height - 1, zero), -1),
        torch.stack((zero, zero, -one, -2 * near * one), -1),
        torch.stack((zero, zero, -one, zero), -1),
    )
    projection = torch.stack(rows, dim=-2)  # [B, 4, 4]
    rotation = cam_to_world[:, :3, :3]
    translation = -(rotation.transpose(1, 2) @ cam_to_world[:, :3, 3:])  # [B, 3, 1]
    top = torch.cat((rotation.transpose(1, 2), translation), dim=-1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], device=top.device).expand(len(top), 1, 4)
    return projection @ torch.cat((top, bottom), dim=1)


def transform_points(points: Tensor, matrices: Tensor) -> Tensor:
    """Homogeneous clip positions [B, V, 4] of `points` [V, 3] under `matrices` [B, 4, 4]."""
    return points @ matrices[:, :, :3].transpose(1, 2) + matrices[:, None, :, 3]
