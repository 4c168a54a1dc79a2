# SPDX-License-Identifier: GPL-3.0-or-later
"""The photographs as the optimiser sees them: premultiplied images at the size of a stage, and their cameras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..appearance.pixel_filter import mean_pixels
from ..appearance.projection import transform_points, world_to_clip
from ..capture.loader import Photos
from ..kernels.rasterize import rasterize

VIEWS_AT_ONCE = 8  # drawn together where all are
RESIDENT_BYTES = 2 << 30  # of a stage's photographs that a GPU keeps; of more it gets those of each step
CAPACITY_MARGIN, MASK_MARGIN = 1.1, 1.3  # of the fixed lists of covered pixels


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

    Where the photographs are too many for the GPU they stay in main memory, and `turn` fetches those of a step.

    Args:
        photos: as loaded.
        longest_side: the images are reduced, never enlarged, to this many pixels.
        near: distance of the near plane, world units.
        samples: most samples along a side of a pixel; fewer where they would be more than `longest_side` in a row.
        resident: bytes of photographs that a GPU keeps.

    Attributes:
        samples: along a side of a pixel.
        resolution: height and width of what is rendered, samples.
        images: [N, H, W, 4] float16, premultiplied, sRGB-encoded; on the device, or in main memory.
        valid: [N, H, W, 1] float16 where the images are, or None.
    """

    def __init__(
        self,
        photos: Photos,
        longest_side: int,
        near: float,
        device: torch.device,
        samples: int = 1,
        resident: int = RESIDENT_BYTES,
    ) -> None:
        height, width = photos.rgba.shape[1:3]
        size = _reduced_size((height, width), longest_side)
        self.samples = max(1, min(samples, longest_side // max(size)))
        self.resolution = (size[0] * self.samples, size[1] * self.samples)
        self.near = near
        scale = torch.tensor(
            [self.resolution[1] / width, self.resolution[0] / height] * 2, dtype=torch.float32, device=device
        )
        self.intrinsics = photos.intrinsics.to(device) * scale  # [N, 4]
        self.cam_to_world = photos.cam_to_world.to(device)  # [N, 4, 4]
        self.clip_transforms = world_to_clip(self.cam_to_world, self.intrinsics, self.resolution, near)  # [N, 4, 4]
        self.device = device
        self.streamed = device.type == "cuda" and len(photos.rgba) * _image_bytes(size) > resident
        self.images = self._pictures(len(photos.rgba), *size, 4)
        self.valid: Tensor | None = None
        if photos.valid is not None:
            self.valid = self._pictures(len(photos.rgba), *size, 1)
        self._fetched: list[tuple[Tensor, Tensor]] = []  # those of a step on the device, and where they come from
        for i, rgba in enumerate(photos.rgba):
            straight = rgba.to(device).float().div_(255).permute(2, 0, 1)[None]  # [1, 4, H, W]
            premultiplied = torch.cat((straight[:, :3] * straight[:, 3:], straight[:, 3:]), dim=1)
            self.images[i] = self._reduced(premultiplied)
            if self.valid is not None and photos.valid is not None:
                self.valid[i] = self._reduced(photos.valid[i].to(device).float()[None, None])

    def _pictures(self, *shape: int) -> Tensor:
        """Room for all photographs; a GPU fetches from pinned memory without waiting."""
        device = torch.device("cpu") if self.streamed else self.device
        return torch.empty(shape, dtype=torch.float16, device=device, pin_memory=self.streamed)

    def _reduced(self, image: Tensor) -> Tensor:
        """Area average of `image` [1, C, H, W] at the stage's size, [H', W', C]."""
        size = self.images.shape[1:3]
        if image.shape[-2:] != size:
            image = functional.interpolate(image, size, mode="area")
        return image[0].permute(1, 2, 0)

    @property
    def encoded(self) -> bool:
        """Whether what is rendered is sRGB-encoded before it comes to `pixels`.

        Where a pixel has one sample, that costs less and differs only at silhouettes.
        """
        return self.samples == 1

    def pixels(self, rendered: Tensor) -> Tensor:
        """What was rendered at `resolution` [B, n·H, n·W, 4], premultiplied, as `Batch.photo` has it [B, H, W, 4].

        Color is linear, or sRGB-encoded where `encoded` says so: a pixel is the mean of the light in it.
        """
        return rendered if self.encoded else mean_pixels(rendered, self.samples)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor) -> Batch:
        """The views with the given numbers [B], on the device of the cameras."""
        where = indices.to(self.images.device)
        return self._batch(self.images[where], None if self.valid is None else self.valid[where], indices)

    def turn(self, draws: Draws, step: int) -> None:
        """Turn to the draws of a step, and fetch its photographs."""
        draws.load(step)
        if not self.streamed:
            return
        numbers = draws.numbers(step)
        if not self._fetched:
            for source in (self.images, self.valid):
                if source is not None:
                    shape = (len(numbers), *source.shape[1:])
                    self._fetched.append((torch.empty(shape, dtype=source.dtype, device=self.device), source))
        for target, source in self._fetched:
            for place, number in enumerate(numbers):
                target[place].copy_(source[number], non_blocking=True)

    def drawn(self, draws: Draws) -> Batch:
        """The views of the step that `turn` turned to, always in the same tensors; waits for nothing."""
        if not self.streamed:
            return self.batch(draws.indices)
        photo, *valid = (target for target, _ in self._fetched)
        return self._batch(photo, valid[0] if valid else None, draws.indices)

    def _batch(self, photo: Tensor, valid: Tensor | None, indices: Tensor) -> Batch:
        return Batch(
            photo.to(self.device).float(),
            None if valid is None else valid.to(self.device).float(),
            self.clip_transforms[indices],
            self.cam_to_world[indices, :3, 3],
            indices,
        )


def side_that_fits(photos: Photos, longest_side: int, resident: int = RESIDENT_BYTES) -> int:
    """The longer side, at most `longest_side`, at which all photographs together take no more than `resident` bytes."""

    def taken(side: int) -> int:
        return len(photos.rgba) * _image_bytes(_reduced_size(photos.resolution, side))

    if taken(longest_side) <= resident:
        return longest_side
    sides = range(min(longest_side, max(photos.resolution)), 1, -1)
    return next((side for side in sides if taken(side) <= resident), 1)


def _reduced_size(size: tuple[int, int], longest_side: int) -> tuple[int, int]:
    factor = min(1.0, longest_side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _image_bytes(size: tuple[int, int]) -> int:
    return size[0] * size[1] * 4 * torch.float16.itemsize


@torch.no_grad()
def triangles_seen(vertices: Tensor, triangles: Tensor, views: TrainingViews) -> Iterator[Tensor]:
    """Triangle at each pixel of all views, −1 where nothing is: some views [B, H, W] int32 at a time."""
    for transforms in views.clip_transforms.split(VIEWS_AT_ONCE):
        clip = transform_points(vertices, transforms).contiguous()
        yield rasterize(clip, triangles, views.resolution)


def covered_capacity(vertices: Tensor, triangles: Tensor, views: TrainingViews, batch: int) -> int | None:
    """Room for the covered pixels of any `batch` views while the surface moves a little; None where none is needed.

    The capacity of fixed lists on a GPU: see `Fragments`.
    """
    if vertices.device.type != "cuda":
        return None
    covered = torch.cat([(ids >= 0).sum((1, 2)) for ids in triangles_seen(vertices, triangles, views)])
    return _capacity(CAPACITY_MARGIN, covered, views, batch)


def masked_capacity(views: TrainingViews, batch: int) -> int:
    """Room for the pixels of any `batch` views that a surface near the masks covers."""
    covered = torch.cat([(images[..., 3] > 0).sum((1, 2)) for images in views.images.split(VIEWS_AT_ONCE)])
    return _capacity(MASK_MARGIN, views.samples**2 * covered, views, batch)


def _capacity(margin: float, covered: Tensor, views: TrainingViews, batch: int) -> int:
    """Room for the `batch` views with the most `covered` [N] pixels."""
    height, width = views.resolution
    most = int(covered.sort(descending=True).values[:batch].sum())
    return min(int(margin * most) + 4096, batch * height * width)


def view_order(count: int, batch: int, steps: int, generator: torch.Generator) -> Tensor:
    """Numbers [steps, min(batch, count)] int64 of the views of each step: every view once before any comes again."""
    batch = min(batch, count)
    rounds = -(-steps * batch // count)
    drawn = [torch.randperm(count, generator=generator) for _ in range(max(rounds, 1))]
    return torch.cat(drawn)[: steps * batch].view(steps, batch)


class Draws:
    """What chance decides in the steps of a stage, drawn ahead; the step at hand reads it always from one place.

    Attributes:
        indices: [B] int64, views of the present step.
        background: [B, 1, 1, 3] float32, what they are laid over.
        phase: [] int64 in 0..3: which quarter of the pixels is regularised.
    """

    def __init__(self, views: int, batch: int, steps: int, seed: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed)
        order = view_order(views, batch, steps, generator)
        self._numbers: list[list[int]] = order.tolist()
        self._order = order.to(device)
        batch = min(batch, views)
        self._backgrounds = torch.rand(steps, batch, 1, 1, 3, generator=generator).to(device)
        self._phases = torch.randint(4, (steps,), generator=generator).to(device)
        self.indices = torch.zeros(batch, dtype=torch.int64, device=device)
        self.background = torch.zeros(batch, 1, 1, 3, device=device)
        self.phase = torch.zeros((), dtype=torch.int64, device=device)

    def load(self, step: int) -> None:
        """Turn to the draws of a step."""
        self.indices.copy_(self._order[step])
        self.background.copy_(self._backgrounds[step])
        self.phase.copy_(self._phases[step])

    def numbers(self, step: int) -> list[int]:
        """The views of a step, for the host."""
        return self._numbers[step]

    def some(self, count: int) -> Tensor:
        """Every fourth of `count` numbers, another quarter in each step: [count // 4] int64."""
        return torch.arange(count // 4, device=self.phase.device) * 4 + self.phase
