# SPDX-License-Identifier: GPL-3.0-or-later
"""Small motions of cameras: twists in a camera's own frame, what they do to its image, what all cameras have in common.

A twist is (ω, t): a rotation vector in radians and a translation in world units, along the camera's axes (OpenGL). The
camera `cam_to_world` becomes `cam_to_world` · exp(twist).
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 1e-6  # relative; keeps systems solvable where nothing is seen


def moved(cam_to_world: Tensor, twist: Tensor) -> Tensor:
    """Cameras `cam_to_world` [B, 4, 4] after the motions `twist` [B, 6]."""
    generators = twist.new_zeros(len(twist), 4, 4)
    generators[:, :3, :3] = cross_matrix(twist[:, :3])
    generators[:, :3, 3] = twist[:, 3:]
    return cam_to_world @ torch.linalg.matrix_exp(generators)


def twist_between(before: Tensor, after: Tensor) -> Tensor:
    """The twist [B, 6] that moves cameras `before` [B, 4, 4] to `after`, to first order in its angle."""
    turned = before[:, :3, :3].transpose(1, 2) @ after[:, :3, :3]
    turn = (turned - turned.transpose(1, 2)) / 2
    shift = before[:, :3, :3].transpose(1, 2) @ (after[:, :3, 3:] - before[:, :3, 3:])
    return torch.cat((torch.stack((turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]), dim=-1), shift[..., 0]), dim=-1)


def cross_matrix(vectors: Tensor) -> Tensor:
    """Matrices [B, 3, 3] that multiply by `vectors` [B, 3] from the left: v × p."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=-1).view(-1, 3, 3)


def flow_of_twist(columns: Tensor, rows: Tensor, depth: Tensor, intrinsics: Tensor) -> Tensor:
    """How the images of still points move with the twist of their camera: d(column, row)/d(twist), [P, 2, 6], pixels.

    Args:
        columns, rows: [P] float32, where the points are seen, pixels.
        depth: [P] float32, along the camera's axis, world units.
        intrinsics: [4] float32, fx fy cx cy, pixels.
    """
    fx, fy, cx, cy = intrinsics.unbind()
    x, y = (columns - cx) / fx, -(rows - cy) / fy  # of the ray at depth one: to the right, up
    zero, inverse = torch.zeros_like(depth), 1 / depth
    # In the camera's frame a point p moves by p × ω − t.
    right = torch.stack((-x * y, 1 + x * x, y, -inverse, zero, -x * inverse), dim=-1)
    up = torch.stack((-1 - y * y, x * y, -x, zero, -inverse, -y * inverse), dim=-1)
    return torch.stack((fx * right, -fy * up), dim=1)


def common_motion(twist: Tensor, metric: Tensor, cam_to_world: Tensor, pivot: Tensor) -> Tensor:
    """The part of the twists [B, 6] that could as well be a motion or another size of the object, [B, 6].

    Args:
        twist: [B, 6] of all cameras.
        metric: [B, 6, 6] whose quadratic form is a twist's mean squared shift of the image.
        cam_to_world: [B, 4, 4].
        pivot: [3] world, about the middle of the object.
    """
    to_camera = cam_to_world[:, :3, :3].transpose(1, 2)
    arm = cam_to_world[:, :3, 3] - pivot
    basis = twist.new_zeros(len(twist), 6, 7)  # twists of the cameras for a turn, a shift, a growth of the world
    basis[:, :3, :3] = to_camera
    basis[:, 3:, :3] = -to_camera @ cross_matrix(arm)
    basis[:, 3:, 3:6] = to_camera
    basis[:, 3:, 6:] = to_camera @ arm[..., None]
    weighted = metric @ basis  # [B, 6, 7]
    matrix = (basis.transpose(1, 2) @ weighted).sum(0)
    side = (weighted.transpose(1, 2) @ twist[..., None]).sum(0)
    ridge = RIDGE * torch.diag(matrix.diagonal().clamp(min=1e-12))
    return (basis @ torch.linalg.solve(matrix + ridge, side))[..., 0]


def shift_of(twist: Tensor, metric: Tensor) -> Tensor:
    """Root mean square shift of the image [B], pixels, by `twist` [B, 6]; `metric` as `common_motion` has it."""
    return (twist[:, None] @ metric @ twist[..., None])[:, 0, 0].clamp(min=0).sqrt()
