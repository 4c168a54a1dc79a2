# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasterisation primitives through nvdiffrast, where the user has installed it; for comparison, never the default.

Written against the public interface in its documentation. Differences that these wrappers bridge: its image row 0 is
the bottom (we turn y around instead of the images), its triangle ids start at 1, its CUDA rasterizer wants sizes that
are multiples of eight (we draw a larger image and cut it), and its antialiasing finds the mesh's neighbors itself.
"""

import importlib
from typing import Any

import torch

from backend.errors import UserError

_contexts: dict[torch.device, Any] = {}


def load() -> Any:
    """The module nvdiffrast.torch. Raises UserError if it cannot be imported."""
    try:
        return importlib.import_module("nvdiffrast.torch")
    except ImportError as error:
        raise UserError(
            what="the nvdiffrast rasterizer was chosen but cannot be loaded",
            where="rasterizer",
            expected="an installed nvdiffrast package",
            found=str(error),
            remedy="Install nvdiffrast yourself (its license allows research and evaluation only), or choose warp.",
        ) from error


def check_device(device: torch.device) -> None:
    """Raises UserError if `device` is not CUDA."""
    if device.type != "cuda":
        raise UserError(
            what="nvdiffrast needs an NVIDIA GPU",
            where="rasterizer",
            expected="device cuda",
            found=f"device {device.type}",
            remedy="Choose the warp rasterizer, which runs on any device.",
        )


def _context(device: torch.device) -> Any:
    module = load()
    check_device(device)
    if device not in _contexts:
        _contexts[device] = module.RasterizeCudaContext(device=device)
    return _contexts[device]


def _upside_down(clip: torch.Tensor) -> torch.Tensor:
    """Clip positions whose image has our top row where nvdiffrast has its first."""
    return clip * clip.new_tensor([1.0, -1.0, 1.0, 1.0])


def _draw(
    clip: torch.Tensor, triangles: torch.Tensor, resolution: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """[B, H, W, 4] (b0, b1, z/w, id + 1), differentiable with respect to clip, and [B, H, W, 4] d(b0, b1)/d(x, y)."""
    context = _context(clip.device)
    views, (height, width) = clip.shape[0], resolution
    if triangles.shape[0] == 0 or clip.shape[1] == 0:
        nothing = torch.zeros(views, height, width, 4, device=clip.device)
        return nothing, nothing
    full = (-(-height // 8) * 8, -(-width // 8) * 8)
    # our image is the corner x, y = -1 of the larger one: x' = (x + w) W / W' - w
    scale = clip.new_tensor([width / full[1], height / full[0]])
    x_y, z_w = _upside_down(clip).split(2, dim=-1)
    w = z_w[..., 1:]
    positions = torch.cat([(x_y + w) * scale - w, z_w], dim=-1).contiguous()
    drawn, derivatives = load().rasterize(context, positions, triangles.contiguous(), full, grad_db=False)
    return drawn[:, :height, :width].contiguous(), derivatives[:, :height, :width].detach()


def rasterize(clip: torch.Tensor, triangles: torch.Tensor, resolution: tuple[int, int]) -> torch.Tensor:
    """As `backend.kernels.rasterize.rasterize`."""
    with torch.no_grad():
        return _draw(clip, triangles, resolution)[0][..., 3].to(torch.int32) - 1


def barycentrics(clip: torch.Tensor, triangles: torch.Tensor, triangle_ids: torch.Tensor) -> torch.Tensor:
    """As `backend.kernels.barycentrics.barycentrics`. Draws again: triangle_ids gives the size only."""
    return _draw(clip, triangles, (triangle_ids.shape[1], triangle_ids.shape[2]))[0][..., :2]


def barycentrics_at(
    clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_ids: torch.Tensor,
    pixels: torch.Tensor,
    resolution: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `backend.kernels.barycentrics.barycentrics_at`. Draws again: triangle_ids say only where nothing is."""
    drawn, derivatives = _draw(clip, triangles, resolution)
    index, seen = pixels.long(), (triangle_ids >= 0)[:, None]
    return drawn.reshape(-1, 4)[index][:, :2] * seen, derivatives.reshape(-1, 4)[index] * seen


def interpolate(
    attributes: torch.Tensor, triangles: torch.Tensor, triangle_ids: torch.Tensor, barycentrics: torch.Tensor
) -> torch.Tensor:
    """As `backend.kernels.interpolate.interpolate`; a list of pixels goes through as an image one pixel high."""
    _context(attributes.device)
    channels = attributes.shape[-1]
    if triangle_ids.numel() == 0 or triangles.shape[0] == 0:
        return torch.zeros(*triangle_ids.shape, channels, device=attributes.device)
    image = triangle_ids.ndim == 3
    ids = (triangle_ids if image else triangle_ids.reshape(1, 1, -1))[..., None]
    weights = barycentrics.reshape(*ids.shape[:3], 2)
    drawn = torch.cat([weights, torch.zeros_like(weights[..., :1]), (ids + 1).to(weights.dtype)], dim=-1)
    table = attributes if attributes.ndim == 3 else attributes[None]
    values, _ = load().interpolate(table.contiguous(), drawn.contiguous(), triangles.contiguous())
    return values.reshape(*triangle_ids.shape, channels)


def antialias(
    image: torch.Tensor,
    clip: torch.Tensor,
    triangles: torch.Tensor,
    triangle_ids: torch.Tensor,
    neighbors: torch.Tensor | None = None,
) -> torch.Tensor:
    """As `backend.kernels.antialias.antialias`, except that silhouettes of triangles below a pixel go unseen.

    `neighbors` is not used. Draws again, for the depths.
    """
    _context(image.device)
    if image.numel() == 0 or triangles.shape[0] == 0:
        return image
    with torch.no_grad():
        drawn, _ = _draw(clip, triangles, (image.shape[1], image.shape[2]))
    return load().antialias(image.contiguous(), drawn, _upside_down(clip).contiguous(), triangles.contiguous())


def sample_texture(texture: torch.Tensor, uv: torch.Tensor, lod: torch.Tensor | None = None) -> torch.Tensor:
    """As `backend.kernels.texture.sample_texture` for one texture [H, W, C]; nvdiffrast makes the mip levels.

    Args:
        texture: [H, W, C] float32, row 0 = top.
        uv: [P, 2], v up; clamped at the border.
        lod: [P] mip level, or None for the finest.

    Returns:
        [P, C].
    """
    _context(texture.device)
    if uv.shape[0] == 0:
        return torch.zeros(0, texture.shape[-1], device=texture.device)
    places = torch.stack([uv[:, 0], 1 - uv[:, 1]], dim=-1)[None, None].contiguous()
    options: dict[str, Any] = {"filter_mode": "linear", "boundary_mode": "clamp"}
    if lod is not None:
        # It halves even sizes only, and refuses others.
        levels = min((size & -size).bit_length() - 1 for size in texture.shape[:2])
        options |= {"filter_mode": "linear-mipmap-linear", "mip_level_bias": lod[None, None].contiguous()}
        options |= {"max_mip_level": levels}
    return load().texture(texture[None].contiguous(), places, **options)[0, 0]
