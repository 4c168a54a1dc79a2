# SPDX-License-Identifier: GPL-3.0-or-later
"""Cameras as clip transforms, against pixel positions worked out by hand, and the pixels that come of them."""

from __future__ import annotations

import math

import numpy as np
import torch

from backend.appearance.fragments import Fragments
from backend.appearance.projection import transform_points, world_to_clip
from tests.capture.builders import orbit_pose

NEAR = 0.01


def pixels_of(clip: torch.Tensor, resolution: tuple[int, int]) -> torch.Tensor:
    """Column and row [..., 2] with the origin in the top-left corner, from clip positions [..., 4]."""
    height, width = resolution
    ndc = clip[..., :2] / clip[..., 3:]
    return torch.stack(((ndc[..., 0] + 1) / 2 * width, (1 - ndc[..., 1]) / 2 * height), -1)


def test_pixel_positions_worked_out_by_hand() -> None:
    # At the origin, looking along -z; 60 wide, 20 high, off-center, fx != fy.
    resolution = (20, 60)
    intrinsics = torch.tensor([[50.0, 40.0, 25.0, 12.0]])
    clip = world_to_clip(torch.eye(4)[None], intrinsics, resolution, NEAR)
    points = torch.tensor([[0.0, 0.0, -1.0], [0.5, 0.0, -2.0], [0.0, 0.5, -2.0], [-1.0, -0.25, -4.0]])
    expected = torch.tensor([[25.0, 12.0], [37.5, 12.0], [25.0, 2.0], [12.5, 14.5]])  # up is a smaller row
    found = transform_points(points, clip)
    torch.testing.assert_close(pixels_of(found[0], resolution), expected)
    torch.testing.assert_close(found[0, :, 3], torch.tensor([1.0, 2.0, 2.0, 4.0]))  # w is the distance


def test_a_turned_and_moved_camera() -> None:
    # Stands at (10, 0, 0), looks along -x with z up: its right is +y.
    pose = torch.tensor([[0.0, 0.0, 1.0, 10.0], [1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    clip = world_to_clip(pose[None], torch.tensor([[80.0, 80.0, 32.0, 24.0]]), (48, 64), NEAR)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [5.0, -1.0, -1.0]])
    expected = torch.tensor([[32.0, 24.0], [40.0, 24.0], [32.0, 16.0], [16.0, 40.0]])
    torch.testing.assert_close(pixels_of(transform_points(points, clip)[0], (48, 64)), expected)


def test_depth_runs_from_the_near_plane_to_infinity() -> None:
    clip = world_to_clip(torch.eye(4)[None], torch.tensor([[50.0, 50.0, 32.0, 32.0]]), (64, 64), 0.5)
    points = torch.tensor([[0.0, 0.0, -0.5], [0.0, 0.0, -1.0], [0.0, 0.0, -1e5], [0.0, 0.0, 2.0]])
    x = transform_points(points, clip)[0]
    depth = x[:3, 2] / x[:3, 3]
    torch.testing.assert_close(depth, torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4, rtol=0)
    assert x[3, 3] < 0  # behind the camera


def test_every_view_has_its_own_camera() -> None:
    poses = torch.from_numpy(np.stack([orbit_pose(a) for a in (0.3, 2.0)])).float()
    intrinsics = torch.tensor([[50.0, 55.0, 20.0, 30.0], [90.0, 80.0, 33.0, 21.0]])
    points = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    both = transform_points(points, world_to_clip(poses, intrinsics, (40, 50), NEAR))
    for i in range(2):
        one = transform_points(points, world_to_clip(poses[i : i + 1], intrinsics[i : i + 1], (40, 50), NEAR))
        torch.testing.assert_close(both[i], one[0])
        # The textbook way: K [R | t], rows downwards.
        local = np.linalg.inv(poses[i].double().numpy()) @ np.c_[points.double().numpy(), np.ones(5)].T
        fx, fy, cx, cy = intrinsics[i].tolist()
        expected = np.stack((fx * local[0] / -local[2] + cx, -fy * local[1] / -local[2] + cy), -1)
        found = pixels_of(both[i].double(), (40, 50)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_gradients_reach_the_pose() -> None:
    pose = torch.from_numpy(orbit_pose(1.0)).float()[None].requires_grad_()
    clip = world_to_clip(pose, torch.tensor([[50.0, 50.0, 32.0, 32.0]]), (64, 64), NEAR)
    pixels_of(transform_points(torch.tensor([[0.2, 0.1, 0.3]]), clip), (64, 64))[0, 0, 0].backward()
    assert pose.grad is not None
    right = pose.detach()[0, :3, 0]
    # A camera that moves to the right sees the point move to the left, by f / depth.
    depth = float(-(torch.linalg.inv(pose.detach()[0]) @ torch.tensor([0.2, 0.1, 0.3, 1.0]))[2])
    assert math.isclose(float(pose.grad[0, :3, 3] @ right), -50.0 / depth, rel_tol=1e-3)


def square(distance: float, half: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A square across the view of a camera at the origin."""
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    vertices = torch.tensor([[half * x, half * y, -distance] for x, y in corners])
    return vertices, torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)


def test_fragments_are_the_pixels_behind_the_square() -> None:
    vertices, triangles = square(4.0, 1.0)
    vertices = vertices + torch.tensor([0.5, 1.0, 0.0])  # right of the middle and above it
    matrices = world_to_clip(torch.eye(4)[None], torch.tensor([[40.0, 40.0, 32.0, 24.0]]), (48, 64), NEAR)
    fragments = Fragments.of(vertices, triangles, matrices, torch.zeros(1, 3), (48, 64))
    covered = torch.zeros(48, 64, dtype=torch.bool)
    covered[4:24, 27:47] = True  # columns 32 + 10·(-0.5 … 1.5), rows 24 - 10·(0 … 2)
    assert torch.equal(fragments.image_ids[0] >= 0, covered)
    # Pixel centers, seen through the pinhole, lie where interpolation says.
    rows, columns = torch.nonzero(covered, as_tuple=True)
    expected = torch.stack(((columns + 0.5 - 32) / 10, (24 - rows - 0.5) / 10, torch.full(rows.shape, -4.0)), -1)
    positions = fragments.interpolate(vertices)
    torch.testing.assert_close(positions, expected, atol=1e-4, rtol=0)
    toward = fragments.directions_to_camera(positions)
    torch.testing.assert_close(toward, -expected / expected.norm(dim=-1, keepdim=True), atol=1e-4, rtol=0)
    torch.testing.assert_close(fragments.image(positions)[0][covered], positions)
    assert not fragments.image(positions)[0][~covered].any()


def test_fragments_know_which_image_they_are_in() -> None:
    vertices, triangles = square(4.0)
    poses = torch.eye(4).repeat(3, 1, 1)
    poses[1, 0, 3], poses[2, 2, 3] = 100.0, 4.0  # one looks past it, one from farther away
    matrices = world_to_clip(poses, torch.tensor([[40.0, 40.0, 16.0, 16.0]]).expand(3, 4), (32, 32), NEAR)
    fragments = Fragments.of(vertices, triangles, matrices, poses[:, :3, 3], (32, 32))
    counts = (fragments.image_ids >= 0).sum((1, 2)).tolist()
    assert counts == [400, 0, 100]
    assert torch.equal(fragments.pixels // (32 * 32), torch.tensor([0] * 400 + [2] * 100))
    toward = fragments.directions_to_camera(fragments.interpolate(vertices))
    center = fragments.camera_centers[2]
    last = fragments.interpolate(vertices)[-1]
    torch.testing.assert_close(toward[-1], (center - last) / (center - last).norm())


def test_nothing_in_view_is_no_fragment() -> None:
    vertices, triangles = square(-4.0)  # behind the camera
    matrices = world_to_clip(torch.eye(4)[None], torch.tensor([[40.0, 40.0, 16.0, 16.0]]), (32, 32), NEAR)
    fragments = Fragments.of(vertices, triangles, matrices, torch.zeros(1, 3), (32, 32))
    assert len(fragments.pixels) == 0
    image = fragments.antialiased(fragments.interpolate(vertices))
    assert image.shape == (1, 32, 32, 3) and not image.any()
