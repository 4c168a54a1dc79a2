# SPDX-License-Identifier: GPL-3.0-or-later
"""Texture stage: the finished mesh stays, its textures and the light are fitted at full photo resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..appearance.bsdf import PrefilteredLight
from ..appearance.color import linear_to_srgb
from ..appearance.environment import EnvironmentLight
from ..appearance.fragments import Fragments
from ..appearance.local_light import LocalLight
from ..appearance.material import MIN_ROUGHNESS
from ..appearance.textured_mesh import CHANNELS, SurfacePoints, TexturedMesh, shade
from ..appearance.transport import Transport
from .losses import image_loss
from .progress import StageProgress
from .scene import Scene
from .settings import Settings
from .views import TrainingViews, ViewOrder

MAX_TILT = 0.5  # of the normal map's x and y: what is steeper belongs to the mesh


@dataclass
class TextureState:
    """What the texture stage learns: `raw` [H, W, 7] unbounded texels and the light."""

    mesh: TexturedMesh
    raw: Tensor
    light: EnvironmentLight
    vertex_color: Tensor  # [V, 3] base color for bounced light

    def textures(self) -> Tensor:
        """Texture values [H, W, 7]: base color, roughness, metallic in 0..1 and normal x, y."""
        unit = torch.sigmoid(self.raw[..., :5])
        rough = MIN_ROUGHNESS + (1 - MIN_ROUGHNESS) * unit[..., 3:4]
        return torch.cat((unit[..., :3], rough, unit[..., 4:], MAX_TILT * torch.tanh(self.raw[..., 5:])), dim=-1)


def run_texture_stage(state: TextureState, scene: Scene, settings: Settings, progress: StageProgress) -> None:
    """Fit `state` to the photographs in place.

    Raises:
        Stopped: the user stopped the job.
    """
    assert state.raw.shape[-1] == CHANNELS
    views = TrainingViews(scene.photos, settings.texture_stage_size, scene.near, scene.device)
    generator = torch.Generator().manual_seed(settings.seed + 2)
    order = ViewOrder(len(views), settings.batch, generator)
    raw = state.raw.detach().clone().requires_grad_()
    state.raw = raw
    start = raw.detach().clone()
    optimizer = torch.optim.Adam(
        [{"params": [raw], "lr": settings.texture_rate}, {"params": state.light.parameters(), "lr": 5e-3}],
        betas=(0.9, 0.99),
        fused=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    mesh = state.mesh
    transport: Transport | None = None
    if settings.transport_size:
        transport = Transport.trace(
            mesh.vertices, mesh.normals, mesh.triangles, settings.transport_size, settings.bounce
        )
    for step in progress.steps(settings.texture_steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.05 ** (step / settings.texture_steps)
        batch = views.batch(order.next())
        background = torch.rand(len(batch.photo), 1, 1, 3, generator=generator).to(scene.device)
        with torch.no_grad():
            fragments = Fragments.of(
                mesh.vertices, mesh.triangles, batch.clip_transforms, batch.camera_centers, views.resolution
            )
            points = SurfacePoints.of(mesh, fragments)
        environment = state.light.prefilter()
        light: PrefilteredLight = environment
        if transport is not None:
            light = LocalLight.at(fragments, transport, environment, state.light.base(), state.vertex_color)
        radiance, _, _ = shade(state.textures(), points, light)
        encoded = linear_to_srgb(radiance.clamp(0, 1))
        rendered = fragments.antialiased(torch.cat((encoded, torch.ones_like(encoded[:, :1])), -1), mesh.neighbors)
        loss = image_loss(rendered, batch.photo, background, batch.valid)
        loss = loss + settings.light_neutrality * state.light.neutrality_loss()
        # Held to the field's values, which were smooth over many views; only what the photographs insist on changes.
        loss = loss + settings.texture_inertia * (raw - start).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        progress.observe(rendered, batch.photo)
    state.raw = raw.detach()
