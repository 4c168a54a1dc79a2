# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasterisation primitives of a reconstruction, as our Warp kernels or as nvdiffrast has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import nvdiffrast_backend
from .antialias import antialias
from .interpolate import interpolate
from .rasterize import barycentrics_at, rasterize
from .texture import sample_texture


@dataclass(frozen=True)
class Primitives:
    """One implementation; arguments and results as the Warp functions of the same names have them."""

    rasterize: Callable[[Tensor, Tensor, tuple[int, int]], Tensor]
    barycentrics_at: Callable[[Tensor, Tensor, Tensor, Tensor, tuple[int, int]], tuple[Tensor, Tensor]]
    interpolate: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    antialias: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor]
    sample_texture: Callable[[Tensor, Tensor, Tensor | None], Tensor]


WARP = Primitives(rasterize, barycentrics_at, interpolate, antialias, sample_texture)
NVDIFFRAST = Primitives(
    nvdiffrast_backend.rasterize,
    nvdiffrast_backend.barycentrics_at,
    nvdiffrast_backend.interpolate,
    nvdiffrast_backend.antialias,
    nvdiffrast_backend.sample_texture,
)
RASTERIZERS = {"warp": WARP, "nvdiffrast": NVDIFFRAST}


def check_rasterizer(name: str, device: torch.device) -> None:
    """Raises UserError if the rasterizer cannot run on `device` or is not installed."""
    if name == "nvdiffrast":
        nvdiffrast_backend.check_device(device)
        nvdiffrast_backend.load()
