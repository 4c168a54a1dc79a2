# SPDX-License-Identifier: GPL-3.0-or-later
"""From views to tensors: photographs of one pinhole size class, with masks, cameras and valid pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from ..errors import UserError
from .checks import enumerated, fitted_camera
from .distortion import sampling_grid
from .image_header import read_image_header
from .masks import MaskSource, decode_view, masked_views
from .model import Camera, View
from .resample import shrunk


@dataclass
class Photos:
    """N photographs, padded at the right and the bottom to the largest; the camera of each is a plain pinhole."""

    names: tuple[str, ...]
    rgba: torch.Tensor
    """[N, H, W, 4] uint8, sRGB-encoded, straight alpha, top row first; zeros in the padding."""
    valid: torch.Tensor | None
    """[N, H, W] bool, false in the padding and where undistortion found no pixel; None where all are valid."""
    intrinsics: torch.Tensor
    """[N, 4] float32: fx, fy, cx, cy in pixels of the loaded size."""
    cam_to_world: torch.Tensor
    """[N, 4, 4] float32, OpenGL axes."""
    sizes: torch.Tensor
    """[N, 2] int32: height and width of each without padding; on the CPU."""
    masked: torch.Tensor
    """[N] bool: whether the view has a mask; without one its alpha is 255 everywhere; on the CPU."""
    exposures: torch.Tensor
    """[N] float32, stops; NaN where the capture does not say; on the CPU."""
    warnings: tuple[str, ...] = ()
    """What was odd about the masks; one line each, for the user's eyes."""

    def __len__(self) -> int:
        return self.rgba.shape[0]

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of the padded images."""
        return self.rgba.shape[1], self.rgba.shape[2]

    @property
    def has_masks(self) -> bool:
        """Whether any view has a mask."""
        return bool(self.masked.any())

    def color_alpha(
        self, indices: torch.Tensor | Sequence[int] | slice, device: torch.device | str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Color [B, H, W, 3] and straight alpha [B, H, W, 1] of some views, float32 in 0…1, sRGB-encoded.

        Alpha is 0 where pixels are not valid. ``device``: where to put them, the photos' own by default.
        """
        if not isinstance(indices, slice):
            indices = torch.as_tensor(indices, dtype=torch.int64, device=self.rgba.device)
        pixels = self.rgba[indices].to(device or self.rgba.device).to(torch.float32) / 255.0  # [B, H, W, 4]
        alpha = pixels[..., 3:]
        if self.valid is not None:
            alpha = alpha * self.valid[indices].to(alpha.device)[..., None]
        return pixels[..., :3], alpha


@dataclass(frozen=True)
class _Loaded:
    rgba: np.ndarray
    valid: np.ndarray | None
    camera: Camera
    source: MaskSource
    coverage: float


def load_photos(
    views: Sequence[View],
    scale: float = 1.0,
    max_size: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> Photos:
    """Decode, undistort and shrink the views' photographs, several at a time.

    Parameters: ``scale`` at most 1 multiplies the sizes, ``max_size`` bounds the longer side after it; ``progress`` is
    called with (done, all) in this thread. Undistortion keeps K and resamples bilinearly at full size.

    Raises UserError naming the file that is missing, damaged or of the wrong size, and where every mask is empty.
    """
    if not views:
        raise UserError("no views to load", "capture", "at least one", "none")
    if not 0.0 < scale <= 1.0:
        raise UserError("wrong scale", "scale", "above 0, at most 1", f"{scale:g}")
    cameras = [_loaded_camera(view, scale, max_size) for view in views]
    height, width = max(camera.height for camera in cameras), max(camera.width for camera in cameras)
    rgba = np.zeros((len(views), height, width, 4), np.uint8)
    every_pixel = all((camera.height, camera.width) == (height, width) for camera in cameras)
    every_pixel = every_pixel and not any(view.camera.distorted for view in views)
    valid = None if every_pixel else np.zeros((len(views), height, width), bool)
    sources: list[MaskSource] = ["none"] * len(views)
    coverages = [1.0] * len(views)
    with ThreadPoolExecutor(threads or max(2, min(8, os.cpu_count() or 2))) as pool:
        pending = {pool.submit(_load, view, cameras[index]): index for index, view in enumerate(views)}
        try:
            for done, future in enumerate(as_completed(pending), 1):
                index = pending.pop(future)
                loaded = future.result()
                rows, columns = loaded.rgba.shape[:2]
                rgba[index, :rows, :columns] = loaded.rgba
                if valid is not None:
                    valid[index, :rows, :columns] = True if loaded.valid is None else loaded.valid
                sources[index], coverages[index] = loaded.source, loaded.coverage
                del future, loaded  # so that only the pictures being worked on are held
                if progress is not None:
                    progress(done, len(views))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    masked = masked_views(sources, coverages)
    return Photos(
        names=tuple(view.name for view in views),
        rgba=torch.from_numpy(rgba).to(device),
        valid=None if valid is None or valid.all() else torch.from_numpy(valid).to(device),
        intrinsics=torch.tensor([[c.fx, c.fy, c.cx, c.cy] for c in cameras], dtype=torch.float32, device=device),
        cam_to_world=torch.from_numpy(np.stack([view.cam_to_world for view in views])).to(device, torch.float32),
        sizes=torch.tensor([[camera.height, camera.width] for camera in cameras], dtype=torch.int32),
        masked=torch.tensor(masked),
        exposures=torch.tensor([float("nan") if v.exposure is None else v.exposure for v in views]),
        warnings=_mask_warnings(views, masked, coverages),
    )


def _loaded_camera(view: View, scale: float, max_size: int | None) -> Camera:
    """The camera at the size to load, without distortion."""
    header = read_image_header(view.image)
    longer = max(header.width, header.height)
    if max_size is not None:
        scale = min(scale, max_size / longer)
    camera = fitted_camera(view.camera, header.width, header.height, view.image, header.orientation)
    return camera.undistorted().resized(max(1, round(header.width * scale)), max(1, round(header.height * scale)))


def _load(view: View, target: Camera) -> _Loaded:
    rgba, source = decode_view(view)
    coverage = float(np.count_nonzero(rgba[..., 3] > 127)) / rgba[..., 3].size
    valid = None
    if view.camera.distorted:
        full = fitted_camera(view.camera, rgba.shape[1], rgba.shape[0], view.image)
        rgba, valid = undistorted(rgba, full)
    rgba, valid = shrunk(rgba, target.width, target.height, valid)
    return _Loaded(rgba, valid, target, source, coverage)


def undistorted(rgba: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The photograph as a pinhole camera with the same K would have taken it.

    Parameters: ``rgba`` [H, W, 4] uint8, straight alpha, of the camera's size.

    Returns the same, bilinearly sampled with colors weighted by alpha, and [H, W] bool: whether the pixel was in the
    photograph; colors repeat its border outside.
    """
    assert rgba.shape[:2] == (camera.height, camera.width)
    grid, valid = _normalized_grid(camera)
    pixels = torch.from_numpy(rgba).permute(2, 0, 1).to(torch.float32)  # [4, H, W]
    opaque = bool(rgba[..., 3].min() == 255)
    if opaque:
        pixels = pixels[:3]
    else:
        pixels[:3] *= pixels[3:] / 255.0
    sampled = torch.nn.functional.grid_sample(
        pixels[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]
    if not opaque:
        sampled[:3] *= 255.0 / sampled[3:].clamp(min=1e-3)
    result = np.full_like(rgba, 255)
    result[..., : len(sampled)] = sampled.add_(0.5).clamp_(0.0, 255.0).to(torch.uint8).permute(1, 2, 0).numpy()
    return result, valid


@lru_cache(maxsize=2)
def _normalized_grid(camera: Camera) -> tuple[torch.Tensor, np.ndarray]:
    """The sampling grid in torch's units, −1 … 1 from the outer edge of the first pixel to that of the last."""
    positions, valid = sampling_grid(camera)
    size = np.array([camera.width, camera.height], np.float32)
    return torch.from_numpy(2.0 * positions / size - 1.0), valid


def _mask_warnings(views: Sequence[View], masked: list[bool], coverages: list[float]) -> tuple[str, ...]:
    """Raises UserError where all masks are empty."""
    lines = []
    empty = [view for view, has, part in zip(views, masked, coverages, strict=True) if has and part == 0.0]
    if empty and len(empty) == sum(masked):
        raise UserError(
            "all masks are empty",
            str(empty[0].mask or empty[0].image),
            "the object visible in the mask or alpha channel",
            f"{len(empty)} empty masks",
            "White (or opaque) is the object.",
        )
    if empty:
        lines.append(f"{len(empty)} views have an empty mask: {enumerated([view.name for view in empty])}")
    bare = [view.name for view, has in zip(views, masked, strict=True) if not has]
    if bare and len(bare) < len(views):
        lines.append(f"{len(bare)} of {len(views)} views have no mask, the others do: {enumerated(bare)}")
    return tuple(lines)
