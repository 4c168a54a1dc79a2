# SPDX-License-Identifier: GPL-3.0-or-later
"""The visual hull from analytic masks: centers, distances, bounds, and what unseen points are."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.errors import UserError
from backend.geometry.hull import Silhouettes, closest_point_to_rays, find_bounds

SIZE = 96
FOCAL = 130.0


def look_at(center: tuple[float, float, float], target: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Tensor:
    """[4, 4] camera to world, OpenGL axes."""
    eye = np.array(center, np.float64)
    back = eye - np.array(target)
    back /= np.linalg.norm(back)
    up = np.array([0.0, 0.0, 1.0]) if abs(back[2]) < 0.99 else np.array([0.0, 1.0, 0.0])
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack((right, np.cross(back, right), back, eye), axis=-1)
    return torch.from_numpy(pose).float()


def ring(target: tuple[float, float, float] = (0.0, 0.0, 0.0), distance: float = 4.0, count: int = 10) -> Tensor:
    """Poses [N, 4, 4] around `target`: a circle, and one from above and one from below."""
    poses = []
    for k in range(count):
        angle, height = 2 * math.pi * k / count, 0.8 * math.sin(3 * k)
        offset = (distance * math.cos(angle), distance * math.sin(angle), height)
        poses.append(look_at(tuple(t + o for t, o in zip(target, offset, strict=True)), target))  # type: ignore[arg-type]
    for z in (distance, -distance):
        poses.append(look_at((target[0] + 0.01, target[1], target[2] + z), target))
    return torch.stack(poses)


def intrinsics(count: int, size: tuple[int, int] = (SIZE, SIZE)) -> Tensor:
    return torch.tensor([[FOCAL, FOCAL, size[1] / 2, size[0] / 2]]).repeat(count, 1)


def pixel_rays(pose: Tensor, camera: Tensor, size: tuple[int, int] = (SIZE, SIZE)) -> Tensor:
    """Directions [H, W, 3], world, unit, through pixel centers at +0.5, row 0 at the top."""
    rows, columns = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    fx, fy, cx, cy = camera
    local = torch.stack(((columns - cx) / fx, (cy - rows) / fy, -torch.ones_like(rows)), dim=-1)
    return torch.nn.functional.normalize(local @ pose[:3, :3].T, dim=-1)


def sphere_masks(poses: Tensor, cameras: Tensor, center: Tensor, radius: float) -> Tensor:
    masks = []
    for pose, camera in zip(poses, cameras, strict=True):
        offset = center - pose[:3, 3]
        along = (pixel_rays(pose, camera) @ offset)[..., None]
        masks.append(((offset.square().sum() - along.square()) < radius * radius)[..., 0])
    return torch.stack(masks).float()


def box_masks(poses: Tensor, cameras: Tensor, low: Tensor, high: Tensor) -> Tensor:
    masks = []
    for pose, camera in zip(poses, cameras, strict=True):
        rays = pixel_rays(pose, camera)
        one, two = (low - pose[:3, 3]) / rays, (high - pose[:3, 3]) / rays
        enter = torch.minimum(one, two).amax(-1)
        leave = torch.maximum(one, two).amin(-1)
        masks.append(leave > enter)
    return torch.stack(masks).float()


CENTER = torch.tensor([0.4, -0.3, 0.2])


@pytest.fixture(scope="module")
def sphere() -> Silhouettes:
    poses = ring((0.3, -0.3, 0.2))
    cameras = intrinsics(len(poses))
    return Silhouettes.from_masks(sphere_masks(poses, cameras, CENTER, 0.6), cameras, poses)


def test_zero_level_lies_between_pixels_of_the_mask_edge() -> None:
    """Half-pixel convention: a mask of the columns left of 40 of an image has its edge at x = 40 exactly."""
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :, :40] = 1.0
    camera = torch.tensor([[100.0, 100.0, SIZE / 2, SIZE / 2]])
    silhouettes = Silhouettes.from_masks(mask, camera, torch.eye(4)[None])
    depth = 2.0
    columns = torch.tensor([37.5, 39.5, 40.0, 40.5, 43.0])
    points = torch.stack(((columns - SIZE / 2) / 100 * depth, torch.zeros(5), -depth * torch.ones(5)), -1)
    distance = silhouettes.signed_distance(points) * 100 / depth  # pixels
    assert float(distance[2]) == pytest.approx(0.0, abs=1e-3)
    assert bool((distance[:2] < 0).all()) and bool((distance[3:] > 0).all())
    # About a pixel more for a pixel further, give or take the half pixel by which a discrete distance is off.
    torch.testing.assert_close(distance, columns - 40, atol=0.6, rtol=0)


def test_rows_run_downward() -> None:
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, :30] = 1.0  # the top of the image: what is high in the world for a camera that stands upright
    camera = torch.tensor([[100.0, 80.0, SIZE / 2, SIZE / 2]])
    silhouettes = Silhouettes.from_masks(mask, camera, torch.eye(4)[None])
    rows = torch.tensor([10.0, 30.0, 50.0])
    points = torch.stack((torch.zeros(3), (SIZE / 2 - rows) / 80 * 3, -3 * torch.ones(3)), -1)
    distance = silhouettes.signed_distance(points)
    assert float(distance[0]) < 0 < float(distance[2]) and abs(float(distance[1])) < 1e-3


def test_sphere_hull_contains_the_sphere_and_little_more(sphere: Silhouettes) -> None:
    # Within the frames of nearly all cameras: further out, few views are left to carve.
    offsets = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    points = CENTER + offsets[offsets.norm(dim=-1) < 1.1]
    true = (points - CENTER).norm(dim=-1) - 0.6
    distance = sphere.signed_distance(points)
    pixel = 4.0 / FOCAL
    assert bool((distance[true < -1.5 * pixel] < 0).all())
    # With twelve cameras the hull bulges between their views, by a tenth of the radius at most.
    assert bool((distance[true > 0.1] > 0).all())
    # A bound of the distance near the surface: neither far too steep nor flat.
    near = true.abs() < 0.3
    assert float((distance - true)[near].abs().max()) < 0.15


def test_bounds_of_a_sphere_and_a_box(sphere: Silhouettes) -> None:
    bounds = find_bounds(sphere)
    slack = 0.12
    assert bounds.shape == (2, 3)
    assert bool((bounds[0] <= CENTER - 0.6 + 0.01).all() and (bounds[1] >= CENTER + 0.6 - 0.01).all())
    assert bool((bounds[0] >= CENTER - 0.6 - slack).all() and (bounds[1] <= CENTER + 0.6 + slack).all())

    low, high = torch.tensor([-0.7, -0.2, -0.4]), torch.tensor([0.5, 0.3, 0.6])
    poses = ring(distance=5.0)
    cameras = intrinsics(len(poses))
    silhouettes = Silhouettes.from_masks(box_masks(poses, cameras, low, high), cameras, poses)
    bounds = find_bounds(silhouettes)
    assert bool((bounds[0] <= low + 0.01).all() and (bounds[1] >= high - 0.01).all())
    assert bool((bounds[0] >= low - 0.25).all() and (bounds[1] <= high + 0.25).all())


@pytest.mark.parametrize("scale", [0.01, 1000.0])
def test_bounds_do_not_depend_on_the_unit(sphere: Silhouettes, scale: float) -> None:
    poses = torch.linalg.inv(sphere.world_to_cam)
    poses[:, :3, 3] *= scale
    scaled = Silhouettes(sphere.distance, sphere.intrinsics, torch.linalg.inv(poses), sphere.whole)
    torch.testing.assert_close(find_bounds(scaled) / scale, find_bounds(sphere), rtol=0, atol=0.03)


def test_a_camera_that_does_not_see_a_point_says_nothing(sphere: Silhouettes) -> None:
    """A close-up whose frame holds only part of the object must not cut away the rest, nor what is behind it."""
    pose = look_at((1.3, -0.3, 0.2), (0.4, -0.3, 0.2))
    camera = torch.tensor([[300.0, 300.0, SIZE / 2, SIZE / 2]])
    full = torch.ones(1, SIZE, SIZE)  # the frame is filled by the object
    close = Silhouettes.from_masks(torch.cat((sphere_masks(pose[None], camera, CENTER, 0.6),)), camera, pose[None])
    torch.testing.assert_close(close.distance, Silhouettes.from_masks(full, camera, pose[None]).distance)
    both = Silhouettes(
        torch.cat((sphere.distance, close.distance)),
        torch.cat((sphere.intrinsics, camera)),
        torch.cat((sphere.world_to_cam, close.world_to_cam)),
        sphere.whole + close.whole,
    )
    behind_it = torch.tensor([[2.0, -0.3, 0.2]])
    beside_its_frame = CENTER[None] + torch.tensor([[0.0, 0.55, 0.0]])
    for points in (behind_it, beside_its_frame):
        torch.testing.assert_close(both.signed_distance(points), sphere.signed_distance(points))
    # What no camera sees is outside.
    assert bool((close.signed_distance(behind_it) > 0).all())


def test_a_view_without_the_object_empties_the_hull(sphere: Silhouettes) -> None:
    masks = sphere.distance[:, 0] < 0
    masks[3] = False
    emptied = Silhouettes.from_masks(masks.float(), sphere.intrinsics, torch.linalg.inv(sphere.world_to_cam))
    assert bool(torch.isfinite(emptied.distance).all())
    assert bool((emptied.signed_distance(CENTER[None]) > 0).all())


def test_bounds_are_those_of_the_object_though_few_cameras_see_beyond_it(sphere: Silhouettes) -> None:
    """Far from the object, most frames have ended: what the few remaining cones enclose there is not the object."""
    facing = torch.stack([look_at((4.0, -0.3, 0.2), (0.3, -0.3, 0.2)), look_at((-3.4, -0.3, 0.2), (0.3, -0.3, 0.2))])
    cameras = intrinsics(2)
    pair = Silhouettes.from_masks(sphere_masks(facing, cameras, CENTER, 0.6), cameras, facing)
    both = Silhouettes(
        torch.cat((sphere.distance, pair.distance)),
        torch.cat((sphere.intrinsics, pair.intrinsics)),
        torch.cat((sphere.world_to_cam, pair.world_to_cam)),
        sphere.whole + pair.whole,
    )
    size = find_bounds(both).diff(dim=0)
    assert bool((size < 1.5).all()), size


def test_masks_without_a_common_volume_are_one_clear_line() -> None:
    poses = ring()
    cameras = intrinsics(len(poses))
    masks = torch.zeros(len(poses), SIZE, SIZE)
    for k in range(len(poses)):  # each sees something else, in another corner of its image
        row, column = divmod(k % 4, 2)
        masks[k, 5 + 70 * row : 15 + 70 * row, 5 + 70 * column : 15 + 70 * column] = 1.0
    with pytest.raises(UserError) as caught:
        find_bounds(Silhouettes.from_masks(masks, cameras, poses))
    line = str(caught.value)
    assert "\n" not in line and "masks" in line and caught.value.remedy


def test_a_small_object_far_from_the_focus_is_found() -> None:
    """The first search grid is as coarse as the camera ring is wide; a thin object must not slip through it."""
    poses = ring(distance=6.0)
    cameras = intrinsics(len(poses))
    center = torch.tensor([0.9, 0.6, -0.5])
    silhouettes = Silhouettes.from_masks(sphere_masks(poses, cameras, center, 0.12), cameras, poses)
    bounds = find_bounds(silhouettes)
    pixel = 6.0 / FOCAL
    assert bool((bounds[0] < center - 0.12 + pixel).all() and (bounds[1] > center + 0.12 - pixel).all())
    assert bool(((bounds[1] - bounds[0]) < 0.6).all())


def test_closest_point_to_rays() -> None:
    target = torch.tensor([1.0, 2.0, -0.5])
    origins = torch.randn(8, 3, generator=torch.Generator().manual_seed(4)) * 3
    directions = torch.nn.functional.normalize(target - origins, dim=-1)
    torch.testing.assert_close(closest_point_to_rays(origins, directions), target, atol=2e-3, rtol=0)
    parallel = torch.tensor([[0.0, 0.0, 1.0]]).repeat(8, 1)
    assert bool(torch.isfinite(closest_point_to_rays(origins, parallel)).all())
