# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture stage: the finished mesh stays, its textures and the light are fitted at full photo resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..appearance.color import linear_to_srgb
from ..appearance.environment import EnvironmentLight
from ..appearance.fragments import Fragments
from ..appearance.material import MIN_ROUGHNESS
from ..appearance.textured_mesh import CHANNELS, SurfacePoints, TexturedMesh, shade
from ..appearance.transport import Transport
from ..kernels.primitives import RASTERIZERS, Primitives
from .losses import image_loss
from .progress import StageProgress
from .scene import Scene
from .settings import Settings
from .stage_light import StageLight
from .views import Batch, TrainingViews, ViewOrder

MAX_TILT = 0.5  # of the normal map's x and y: what is steeper belongs to the mesh
CACHE_BYTES = 1 << 30  # of frames kept, where the device is the CPU
BYTES_PER_PIXEL = 200  # of a frame, about


@dataclass
class TextureState:
    """What the texture stage learns: the texels and the light.

    Attributes:
        textures: [H, W, 7] float32, base color, roughness, metallic in 0..1 and normal x, y.
        vertex_color: [V, 3] float32, base color for bounced light.
    """

    mesh: TexturedMesh
    textures: Tensor
    light: EnvironmentLight
    vertex_color: Tensor


class Frames:
    """What the cameras see of a mesh that does not move; kept from one time to the next where memory allows."""

    def __init__(
        self, mesh: TexturedMesh, views: TrainingViews, batch: int, device: torch.device, primitives: Primitives
    ) -> None:
        self._mesh = mesh
        self._views = views
        self._primitives = primitives
        pixels = len(views) * views.resolution[0] * views.resolution[1]
        # A GPU rasterises faster than it could fetch; batches of several views never repeat.
        self._keeps = device.type == "cpu" and batch == 1 and pixels * BYTES_PER_PIXEL < CACHE_BYTES
        self._kept: dict[int, tuple[Fragments, SurfacePoints]] = {}

    @torch.no_grad()
    def of(self, batch: Batch) -> tuple[Fragments, SurfacePoints]:
        """Covered pixels and their frames in the views of `batch`."""
        key = int(batch.indices[0]) if self._keeps else -1
        if key in self._kept:
            return self._kept[key]
        fragments = Fragments.of(
            self._mesh.vertices,
            self._mesh.triangles,
            batch.clip_transforms,
            batch.camera_centers,
            self._views.resolution,
            self._primitives,
        )
        frame = fragments, SurfacePoints.of(self._mesh, fragments)
        if self._keeps:
            self._kept[key] = frame
        return frame


def run_texture_stage(state: TextureState, scene: Scene, settings: Settings, progress: StageProgress) -> None:
    """Fit `state` to the photographs in place.

    Raises:
        Stopped: the user stopped the job.
    """
    assert state.textures.shape[-1] == CHANNELS
    views = TrainingViews(scene.photos, settings.texture_stage_size, scene.near, scene.device)
    generator = torch.Generator().manual_seed(settings.seed + 2)
    order = ViewOrder(len(views), settings.batch, generator)
    start = state.textures
    textures = start.clone().requires_grad_()
    low = torch.tensor([0.0, 0.0, 0.0, MIN_ROUGHNESS, 0.0, -MAX_TILT, -MAX_TILT], device=scene.device)
    high = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, MAX_TILT, MAX_TILT], device=scene.device)
    optimizer = torch.optim.Adam(
        [
            {"params": [textures], "lr": settings.texture_rate},
            {"params": state.light.parameters(), "lr": 5e-3 * settings.light_interval},
        ],
        betas=(0.9, 0.99),
        fused=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    mesh = state.mesh
    stage_light = StageLight(state.light, settings.light_interval)
    if settings.transport_size:
        transport = Transport.trace(
            mesh.vertices, mesh.normals, mesh.triangles, settings.transport_size, settings.bounce
        )
        stage_light.cast_shadows(transport, state.vertex_color)
    frames = Frames(mesh, views, settings.batch, scene.device, RASTERIZERS[settings.rasterizer])
    for step in progress.steps(settings.texture_steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.05 ** (step / settings.texture_steps)
        batch = views.batch(order.next())
        background = torch.rand(len(batch.photo), 1, 1, 3, generator=generator).to(scene.device)
        fragments, points = frames.of(batch)
        light_learns = stage_light.update(step)
        radiance, _, _ = shade(textures, points, stage_light.at(fragments))
        encoded = linear_to_srgb(radiance.clamp(0, 1))
        rendered = fragments.antialiased(torch.cat((encoded, torch.ones_like(encoded[:, :1])), -1), mesh.neighbors)
        loss = image_loss(rendered, batch.photo, background, batch.valid)
        if light_learns:
            loss = loss + settings.light_neutrality * state.light.neutrality_loss()
        # Held to the field's values, which were smooth over many views; only what the photographs insist on changes.
        loss = loss + settings.texture_inertia * (textures - start).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch.maximum(torch.minimum(textures, high), low, out=textures)
        progress.observe(rendered, batch.photo)
    state.textures = textures.detach()
