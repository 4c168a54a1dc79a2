# SPDX-License-Identifier: GPL-3.0-or-later
"""The bounds of the object, as its masks give them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from backend.capture.loader import Photos
from backend.errors import UserError
from backend.optimization.scene import Scene
from tests.capture.builders import one_line, orbit_pose

SIZE = 48


def sphere_photos(views: int, focal: float, distance: float = 3.4, alpha: bool = True) -> Photos:
    """A unit sphere at the origin from `views` sides, above and below; `focal` in image widths."""
    poses = np.stack(
        [orbit_pose(2 * np.pi * i / views, distance, (1.6, -1.2, 0.2)[i % 3]) for i in range(views)]
    ).astype(np.float32)
    axis = (np.arange(SIZE) + 0.5 - SIZE / 2) / (focal * SIZE)
    down, right = np.meshgrid(axis, axis, indexing="ij")
    local = np.stack((right, -down, -np.ones_like(right)), -1).astype(np.float32)
    rgba = np.full((views, SIZE, SIZE, 4), 255, np.uint8)
    for image, pose in zip(rgba, poses):
        direction = local @ pose[:3, :3].T
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        along = direction @ pose[:3, 3]
        hit = along**2 > pose[:3, 3] @ pose[:3, 3] - 1
        image[..., 3] = np.where(hit, 255, 0) if alpha else 255
    return Photos(
        names=tuple(map(str, range(views))),
        rgba=torch.from_numpy(rgba),
        valid=None,
        intrinsics=torch.tensor([[focal * SIZE, focal * SIZE, SIZE / 2, SIZE / 2]]).repeat(views, 1),
        cam_to_world=torch.from_numpy(poses),
        sizes=torch.tensor([[SIZE, SIZE]] * views, dtype=torch.int32),
        masked=torch.full((views,), alpha),
        exposures=torch.full((views,), float("nan")),
        warnings=(),
    )


@pytest.mark.parametrize(
    ("views", "focal"), [(12, 0.8), (24, 1.0), (48, 1.3), (8, 0.8), (12, 1.0), (12, 1.3), (24, 1.3)]
)
def test_the_box_is_that_of_the_object(views: int, focal: float) -> None:
    scene = Scene.of(sphere_photos(views, focal), None, torch.device("cpu"))
    assert (scene.bounds[0] < -0.9).all() and (scene.bounds[1] > 0.9).all()
    assert (scene.bounds.abs() < 1.4).all(), scene.bounds.tolist()
    assert scene.near < 0.01 * scene.extent


def test_a_region_cuts_the_box_and_must_meet_it() -> None:
    photos = sphere_photos(12, 0.8)
    region = torch.tensor([[-0.5, -9.0, 0.0], [9.0, 0.25, 9.0]])
    bounds = Scene.of(photos, region, torch.device("cpu")).bounds
    assert bounds[0, 0] == -0.5 and bounds[1, 1] == 0.25 and bounds[0, 2] == 0 and 0.9 < bounds[1, 0] < 1.4
    with pytest.raises(UserError) as caught:
        Scene.of(photos, region + 20, torch.device("cpu"))
    one_line(caught.value, "region")


def test_no_mask_at_all_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        Scene.of(sphere_photos(12, 0.8, alpha=False), None, torch.device("cpu"))
    one_line(caught.value, "mask", "alpha")


def test_other_cameras_see_other_silhouettes_of_the_same_volume() -> None:
    scene = Scene.of(sphere_photos(12, 0.8), None, torch.device("cpu"))
    cameras = scene.photos.cam_to_world.clone()
    cameras[:, :3, 3] += torch.tensor([0.0, 0.0, 0.1])
    raised = scene.with_cameras(cameras)
    assert torch.equal(raised.bounds, scene.bounds) and torch.equal(raised.photos.cam_to_world, cameras)
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    distances = raised.silhouettes.signed_distance(points + torch.tensor([0.0, 0.0, 0.1]))
    torch.testing.assert_close(distances, scene.silhouettes.signed_distance(points), atol=1e-4, rtol=1e-3)
