# SPDX-License-Identifier: GPL-3.0-or-later
"""The visual hull as a signed distance field: where reconstruction starts when the photographs have masks.

For one view, the signed distance of a point to the cone over its mask is about the 2D distance in the image times
depth / focal length. The hull is the intersection of the cones, so its field is the largest over all views.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from ..errors import UserError
from .band import Grid

SEARCH_CELLS = 64


@dataclass(frozen=True)
class Silhouettes:
    """Signed 2D distances to the masks, with the cameras that see them.

    Attributes:
        distance: [N, 1, H, W] float32, pixels, negative inside the mask.
        intrinsics: [N, 4] float32, fx fy cx cy of these images.
        world_to_cam: [N, 4, 4] float32, OpenGL axes.
        whole: for each view, whether it shows the whole object: its mask ends before the image does.
    """

    distance: Tensor
    intrinsics: Tensor
    world_to_cam: Tensor
    whole: tuple[bool, ...]

    @staticmethod
    def from_masks(alpha: Tensor, intrinsics: Tensor, cam_to_world: Tensor) -> Silhouettes:
        """Distances of masks `alpha` [N, H, W] in 0..1 on the CPU; the edge lies at one half."""
        masks = (alpha > 0.5).cpu().numpy()
        whole = [bool(mask.any() and not (mask[[0, -1]].any() or mask[:, [0, -1]].any())) for mask in masks]
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            fields = list(pool.map(_distance_to_edge, masks))
        stacked = torch.from_numpy(np.stack(fields).astype(np.float32)).nan_to_num(posinf=1e4, neginf=-1e4)
        device = cam_to_world.device
        return Silhouettes(stacked[:, None].to(device), intrinsics, torch.linalg.inv(cam_to_world), tuple(whole))

    def signed_distance(self, points: Tensor) -> Tensor:
        """Hull distance [M], world units, of world `points` [M, 3].

        A view whose mask meets the image border says nothing of points outside the image. A view that shows the whole
        object excludes them: their distance is at least that of the border pixel, or to the camera behind it.
        """
        height, width = self.distance.shape[-2:]
        result = torch.full((len(points),), -torch.inf, device=points.device)
        views = zip(self.distance, self.intrinsics, self.world_to_cam, self.whole, strict=True)
        for field, intrinsics, world_to_cam, whole in views:
            local = points @ world_to_cam[:3, :3].T + world_to_cam[:3, 3]  # [M, 3] camera
            depth = -local[:, 2]
            fx, fy, cx, cy = intrinsics.unbind()
            x = fx * local[:, 0] / depth + cx
            y = -fy * local[:, 1] / depth + cy
            uv = torch.stack((2 * x / width - 1, 2 * y / height - 1), dim=-1)  # [M, 2]
            pixels = functional.grid_sample(field[None], uv[None, None], align_corners=False, padding_mode="border")
            in_front = depth > 1e-6
            cone = pixels[0, 0, 0] * depth / torch.sqrt(fx * fy)
            if whole:
                result = torch.maximum(result, torch.where(in_front, cone, local.norm(dim=-1)))
            else:
                seen = in_front & (uv.abs() < 1).all(dim=-1)
                result = torch.where(seen, torch.maximum(result, cone), result)
        # What no camera sees cannot be the object that all of them show.
        return torch.where(result == -torch.inf, torch.inf, result)

    def view_counts(self, points: Tensor) -> Tensor:
        """How many views see each of the world `points` [M, 3]: [M] int64."""
        height, width = self.distance.shape[-2:]
        counts = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        for intrinsics, world_to_cam in zip(self.intrinsics, self.world_to_cam, strict=True):
            local = points @ world_to_cam[:3, :3].T + world_to_cam[:3, 3]
            depth = -local[:, 2]
            fx, fy, cx, cy = intrinsics.unbind()
            x, y = fx * local[:, 0] / depth + cx, -fy * local[:, 1] / depth + cy
            counts += (depth > 1e-6) & (x > 0) & (x < width) & (y > 0) & (y < height)
        return counts


def _distance_to_edge(mask: np.ndarray) -> np.ndarray:
    """Distance [H, W] to the edge of a mask, pixels, negative inside."""
    if mask.any() and not mask.all():
        return np.asarray(distance_transform_edt(~mask) - distance_transform_edt(mask))
    return np.full(mask.shape, -np.inf if mask.all() else np.inf)


def find_bounds(silhouettes: Silhouettes) -> Tensor:
    """Bounding box [2, 3], world, of the visual hull, searched between the cameras.

    Raises:
        UserError: the masks have no common volume.
    """
    cam_to_world = torch.linalg.inv(silhouettes.world_to_cam)
    centers, forward = cam_to_world[:, :3, 3], -cam_to_world[:, :3, 2]
    focus = closest_point_to_rays(centers, forward)
    radius = (centers - focus).norm(dim=1).max()
    bounds = torch.stack((focus - radius, focus + radius))
    # Twice: the first search box is as wide as the camera ring, the second is the object with a cell of slack.
    for _ in range(2):
        grid = Grid.around(bounds, SEARCH_CELLS)
        points = grid.all_positions(centers.device)
        near = silhouettes.signed_distance(points) < grid.cell_size * 0.87  # half a cell's diagonal
        # Beyond most frames the few views left carve nothing away: their cones reach as far as the other cameras.
        counts = silhouettes.view_counts(points)
        near &= 4 * counts >= counts.max()
        if not bool(near.any()):
            raise UserError(
                what="the masks of the views have no common volume",
                where="capture",
                expected="cameras that all look at one object, and masks that show it",
                found=f"no point that lies inside all {len(centers)} masks",
                remedy="Check the poses (OpenGL axes, camera to world) and that the masks are white on the object.",
            )
        kept = points[near]
        bounds = torch.stack((kept.amin(0) - grid.cell_size / 2, kept.amax(0) + grid.cell_size / 2))
    return bounds


def closest_point_to_rays(origins: Tensor, directions: Tensor) -> Tensor:
    """The point [3] with the least squared distance to all lines; `directions` [N, 3] are unit vectors."""
    eye = torch.eye(3, device=origins.device)
    projectors = eye - directions[:, :, None] * directions[:, None, :]  # [N, 3, 3]
    # A trace of damping toward the mean keeps parallel views solvable.
    damping = 1e-4 * len(origins) * eye
    right = (projectors @ origins[:, :, None]).sum(0)[:, 0] + damping @ origins.mean(0)
    return torch.linalg.solve(projectors.sum(0) + damping, right)
