# SPDX-License-Identifier: GPL-3.0-or-later
"""The volume that is reconstructed and what all stages share."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..capture.loader import Photos
from ..errors import UserError
from ..geometry.hull import Silhouettes, find_bounds

HULL_IMAGE_SIZE = 512  # distances to masks need no more


@dataclass(frozen=True)
class Scene:
    """Photographs, silhouettes and bounds [2, 3] (world) of the object."""

    photos: Photos
    silhouettes: Silhouettes
    bounds: Tensor
    device: torch.device

    @property
    def extent(self) -> float:
        """Longest side of the bounds, world units."""
        return float((self.bounds[1] - self.bounds[0]).max())

    @property
    def near(self) -> float:
        """Near plane, world units: far in front of the object, far behind rounding."""
        return self.extent * 1e-3

    @staticmethod
    def of(photos: Photos, region: Tensor | None, device: torch.device) -> Scene:
        """Measure the object from the masks; `region` [2, 3], world, limits it where given.

        Raises:
            UserError: no masks, or masks with no common volume.
        """
        if not photos.has_masks:
            raise UserError(
                what="no view has a mask",
                where="capture",
                expected="photographs with an alpha channel, or mask files (mask_path)",
                found="none",
                remedy="Cut the object out (alpha channel) or add masks; captures without masks are not supported yet.",
            )
        silhouettes = _silhouettes(photos, device)
        bounds = find_bounds(silhouettes)
        if region is not None:
            region = region.to(bounds)
            bounds = torch.stack((torch.maximum(bounds[0], region[0]), torch.minimum(bounds[1], region[1])))
            if not bool((bounds[1] > bounds[0]).all()):
                raise UserError(
                    what="the region and the object do not meet",
                    where="capture bounds",
                    expected="a box that contains part of the object",
                    found=str(region.tolist()),
                    remedy="Move or enlarge the region.",
                )
        return Scene(photos, silhouettes, bounds, device)

    def with_cameras(self, cam_to_world: Tensor) -> Scene:
        """The same volume as other cameras [N, 4, 4] see it; what was learned in its bounds still fits."""
        photos = replace(self.photos, cam_to_world=cam_to_world.to(self.photos.cam_to_world))
        return replace(self, photos=photos, silhouettes=_silhouettes(photos, self.device))


def _silhouettes(photos: Photos, device: torch.device) -> Silhouettes:
    alpha = photos.rgba[..., 3]
    step = max(1, max(alpha.shape[1:]) // HULL_IMAGE_SIZE)
    scale = torch.ones(4) / step
    reduced = alpha[:, step // 2 :: step, step // 2 :: step].float() / 255
    return Silhouettes.from_masks(reduced, (photos.intrinsics * scale).to(device), photos.cam_to_world.to(device))
