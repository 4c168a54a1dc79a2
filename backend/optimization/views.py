# SPDX-License-Identifier: GPL-3.0-or-later
"""The photographs as the optimiser sees them: premultiplied images at the size of a stage, and their cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.projection import world_to_clip
from ..capture.loader import Photos


@dataclass(frozen=True)
class Batch:
    """Some views of one step.

    Attributes:
        photo: [B, H, W, 4] float32, premultiplied, sRGB-encoded.
        valid: [B, H, W, 1] float32 or None.
        clip_transforms: [B, 4, 4] float32.
        camera_centers: [B, 3] float32, world.
        indices: [B] int64, numbers of the views.
    """

    photo: Tensor
    valid: Tensor | None
    clip_transforms: Tensor
    camera_centers: Tensor
    indices: Tensor


class TrainingViews:
    """All views at one image size.

    Args:
        photos: as loaded.
        longest_side: the images are reduced, never enlarged, to this many pixels.
        near: distance of the near plane, world units.
    """

    def __init__(self, photos: Photos, longest_side: int, near: float, device: torch.device) -> None:
        height, width = photos.rgba.shape[1:3]
        factor = min(1.0, longest_side / max(height, width))
        self.resolution = (max(1, round(height * factor)), max(1, round(width * factor)))
        self.near = near
        scale = torch.tensor(
            [self.resolution[1] / width, self.resolution[0] / height] * 2, dtype=torch.float32, device=device
        )
        self.intrinsics = photos.intrinsics.to(device) * scale  # [N, 4]
        self.cam_to_world = photos.cam_to_world.to(device)  # [N, 4, 4]
        self.images = torch.empty(len(photos.rgba), *self.resolution, 4, dtype=torch.float16, device=device)
        self.valid: Tensor | None = None
        if photos.valid is not None:
            self.valid = torch.empty(len(photos.rgba), *self.resolution, 1, dtype=torch.float16, device=device)
        for i, rgba in enumerate(photos.rgba):
            straight = rgba.to(device).float().div_(255).permute(2, 0, 1)[None]  # [1, 4, H, W]
            premultiplied = torch.cat((straight[:, :3] * straight[:, 3:], straight[:, 3:]), dim=1)
            self.images[i] = self._reduced(premultiplied)
            if self.valid is not None and photos.valid is not None:
                self.valid[i] = self._reduced(photos.valid[i].to(device).float()[None, None])

    def _reduced(self, image: Tensor) -> Tensor:
        """Area average of `image` [1, C, H, W] at the stage's resolution, [H', W', C]."""
        if image.shape[-2:] != self.resolution:
            image = functional.interpolate(image, self.resolution, mode="area")
        return image[0].permute(1, 2, 0)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor) -> Batch:
        """The views with the given numbers [B]."""
        cam_to_world = self.cam_to_world[indices]
        return Batch(
            self.images[indices].float(),
            None if self.valid is None else self.valid[indices].float(),
            world_to_clip(cam_to_world, self.intrinsics[indices], self.resolution, self.near),
            cam_to_world[:, :3, 3],
            indices,
        )


class ViewOrder:
    """Endless draws of view numbers: every view once before any comes again."""

    def __init__(self, count: int, batch: int, generator: torch.Generator) -> None:
        self._count = count
        self._batch = min(batch, count)
        self._generator = generator
        self._queue: list[int] = []

    def next(self) -> Tensor:
        """Numbers [B] of the next views."""
        if len(self._queue) < self._batch:
            self._queue += torch.randperm(self._count, generator=self._generator).tolist()
        taken, self._queue = self._queue[: self._batch], self._queue[self._batch :]
        return torch.tensor(taken)
